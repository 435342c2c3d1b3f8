/*
 * asterisk-dialog: what is sent next.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief The channel's name, audio and what is told between it, the goodbye: on the service thread.
 */

#include "fork_link.h"

#include <string.h>

/* After our close frame, time for the server's. */
#define LINGER_US 1000000
/* Messages written in one go; other links get their turn in between. */
#define BURST_MESSAGES 64

/*! \brief The next frame, if one is due and no key stands before it. */
static bool next_frame(struct fork_link *link, int16_t *frame)
{
	struct fork_cell cell;

	for (;;) {
		uint64_t in = link->mixer.fifo[FORK_READ].last_us;
		uint64_t out = link->mixer.fifo[FORK_WRITE].last_us;

		if (fork_mixer_pull(&link->mixer, in > out ? in : out, frame)) {
			return true;
		}
		if (link->params.json && fork_digit_place(link) && fork_digit_due(link)) {
			return false;
		}
		if (!fork_ring_pop(&link->ring, &cell)) {
			break;
		}
		fork_mixer_push(&link->mixer, &cell);
	}
	if (link->flushing) {
		return fork_mixer_drain(&link->mixer, frame);
	}
	/* A time before the ring was found empty: else what came since would count as a stall. */
	return fork_mixer_waits(&link->mixer)
		&& fork_mixer_pull(&link->mixer, link->progress_us, frame);
}

static int send_name(struct fork_link *link)
{
	size_t length;

	link->name_sent = true;
	if (link->params.json) {
		return fork_send_start(link);
	}
	pthread_mutex_lock(&link->lock);
	length = strlen(link->name);
	memcpy(link->message + LWS_PRE, link->name, length);
	pthread_mutex_unlock(&link->lock);
	return fork_wire_write(link, length, true);
}

/*! \brief Samples into bytes, little-endian. */
static void put_samples(unsigned char *bytes, const int16_t *samples, size_t count)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	memcpy(bytes, samples, count * sizeof(*samples));
#else
	for (size_t i = 0; i < count; i++) {
		bytes[2 * i] = (unsigned char) ((uint16_t) samples[i] & 0xff);
		bytes[2 * i + 1] = (unsigned char) ((uint16_t) samples[i] >> 8);
	}
#endif
}

/*! \brief Write what is gathered. Should that fail, it stays, for the next connection. */
static int send_gathered(struct fork_link *link)
{
	put_samples(link->message + LWS_PRE, link->gathered, link->message_bytes / 2);
	if (fork_wire_write(link, link->message_bytes, false)) {
		return -1;
	}
	for (int d = 0; d < FORK_DIRECTIONS; d++) {
		atomic_store_explicit(&link->sent_us[d], link->mixer.fifo[d].taken * 1000000
			/ link->mixer.rate_hz, memory_order_relaxed);
	}
	atomic_fetch_add_explicit(&link->frames_sent, link->frames_gathered, memory_order_relaxed);
	atomic_fetch_add_explicit(&link->messages_sent, 1, memory_order_relaxed);
	link->frames_gathered = 0;
	return 0;
}

/*! \brief Gather a message and write it. \retval 1 done \retval 0 no more audio for now */
static int send_audio(struct fork_link *link)
{
	size_t samples = fork_mixer_samples(&link->mixer);
	size_t frames = link->params.message_ms / FORK_FRAME_MS;

	while (link->frames_gathered < frames) {
		if (!next_frame(link, link->gathered + link->frames_gathered * samples)) {
			break;
		}
		link->frames_gathered++;
	}
	if (link->frames_gathered < frames) {
		if (!link->flushing || !link->frames_gathered || fork_digit_due(link)) {
			return 0;
		}
		memset(link->gathered + link->frames_gathered * samples, 0,
			(frames - link->frames_gathered) * samples * sizeof(*link->gathered));
	}
	return send_gathered(link) ? -1 : 1;
}

/*! \brief Nothing is left to be sent now. */
static int went_idle(struct fork_link *link)
{
	if (link->flushing) {
		if (link->params.json && !link->told_of.stop) {
			fork_wire_want_write(link);
			return fork_send_stop(link);
		}
		fork_set_state(link, FORK_CLOSING);
		fork_wire_timer(link, LINGER_US);
		fork_wire_say_goodbye(link);
		return -1;
	}
	if (fork_mixer_waits(&link->mixer) && !link->holding) {
		link->holding = true;
		fork_wire_pulse();
	}
	return 0;
}

/*! \brief Whether there is, or may soon be, something to write. */
static bool more_waits(struct fork_link *link)
{
	return link->flushing || fork_ring_waiting(&link->ring) || fork_mixer_waits(&link->mixer)
		|| (link->params.json && fork_tell_waits(link));
}

int fork_connection_writable(struct fork_link *link)
{
	if (atomic_load(&link->state) != FORK_UP) {
		return 0;
	}
	link->progress_us = fork_now_us();
	if (!link->name_sent) {
		if (send_name(link)) {
			return -1;
		}
		fork_wire_want_write(link);
		return 0;
	}
	for (int sent = 0;; sent++) {
		int res = link->params.json ? fork_send_told(link) : 0;

		if (!res && !(res = send_audio(link)) && !fork_digit_due(link)) {
			return went_idle(link);
		}
		if (res < 0) {
			return -1;
		}
		if (!more_waits(link)) {
			return 0;
		}
		if (sent == BURST_MESSAGES || fork_wire_choked(link)) {
			fork_wire_want_write(link);
			return 0;
		}
	}
}
