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
 * \brief The channel's name, the mixer's frames, the goodbye: on the service thread.
 */

#include "fork_link.h"

#include <string.h>

/* After our close frame, time for the server's. */
#define LINGER_US 1000000
/* Frames written in one go; other links get their turn in between. */
#define BURST_FRAMES 64

/*! \brief The next message's samples into `frame`, if one is due. */
static bool next_frame(struct fork_link *link, int16_t frame[FORK_FRAME_SAMPLES])
{
	struct fork_cell cell;

	for (;;) {
		uint64_t in = link->mixer.fifo[FORK_READ].last_us;
		uint64_t out = link->mixer.fifo[FORK_WRITE].last_us;

		if (fork_mixer_pull(&link->mixer, in > out ? in : out, frame)) {
			return true;
		}
		if (!fork_ring_pop(&link->ring, &cell)) {
			break;
		}
		fork_mixer_push(&link->mixer, &cell);
	}
	if (link->flushing) {
		return fork_mixer_drain(&link->mixer, frame);
	}
	return fork_mixer_waits(&link->mixer)
		&& fork_mixer_pull(&link->mixer, fork_now_us(), frame);
}

static int send_name(struct fork_link *link)
{
	size_t length;

	pthread_mutex_lock(&link->lock);
	length = strlen(link->name);
	memcpy(link->message + LWS_PRE, link->name, length);
	pthread_mutex_unlock(&link->lock);
	link->name_sent = true;
	return fork_wire_write(link, length, true);
}

static int send_frame(struct fork_link *link, const int16_t frame[FORK_FRAME_SAMPLES])
{
	unsigned char *bytes = link->message + LWS_PRE;

	for (int i = 0; i < FORK_FRAME_SAMPLES; i++) {
		bytes[2 * i] = (unsigned char) ((uint16_t) frame[i] & 0xff);
		bytes[2 * i + 1] = (unsigned char) ((uint16_t) frame[i] >> 8);
	}
	if (fork_wire_write(link, FORK_MESSAGE_BYTES, false)) {
		return -1;
	}
	atomic_fetch_add_explicit(&link->frames_sent, 1, memory_order_relaxed);
	return 0;
}

/*! \brief Nothing is left to be sent now. */
static int went_idle(struct fork_link *link)
{
	if (link->flushing) {
		fork_set_state(link, FORK_CLOSING);
		fork_wire_timer(link, LINGER_US);
		fork_wire_say_goodbye(link);
		return -1;
	}
	if (fork_mixer_waits(&link->mixer) && !link->holding) {
		link->holding = true;
		fork_wire_timer(link, FORK_FRAME_US);
	}
	return 0;
}

int fork_connection_writable(struct fork_link *link)
{
	int16_t frame[FORK_FRAME_SAMPLES];

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
	for (int sent = 0; next_frame(link, frame); sent++) {
		if (send_frame(link, frame)) {
			return -1;
		}
		if (!fork_ring_waiting(&link->ring) && !link->flushing
			&& !fork_mixer_waits(&link->mixer)) {
			return 0;
		}
		if (sent == BURST_FRAMES || fork_wire_choked(link)) {
			fork_wire_want_write(link);
			return 0;
		}
	}
	return went_idle(link);
}
