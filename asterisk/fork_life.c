/*
 * asterisk-dialog: a link's life.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief NEW, RESOLVING, CONNECTING, UP, BACKOFF, CLOSING, DONE: all of it on the service thread.
 */

#include "fork_link.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A connection that lived for so long is forgiven all attempts before it. */
#define STABLE_US 5000000
#define TICK_US 1000000
#define LONGEST_DOUBLING 16

static struct {
	struct fork_link *first; /* those that are not DONE */
	unsigned int up;         /* of these, how many are UP */
} links;

unsigned int fork_links_up(void)
{
	return links.up;
}

void fork_set_state(struct fork_link *link, enum fork_state state)
{
	links.up -= atomic_load(&link->state) == FORK_UP;
	links.up += state == FORK_UP;
	atomic_store(&link->state, state);
}

/*! \brief Count what will never be sent, so that captured = sent + dropped. */
static void count_unsent(struct fork_link *link, struct fork_stats *stats)
{
	struct fork_cell cell;

	while (fork_ring_pop(&link->ring, &cell)) {
		stats->dropped_us[cell.direction & 1] += fork_cell_us(&cell);
	}
	for (int d = 0; d < FORK_DIRECTIONS; d++) {
		const struct fork_fifo *fifo = &link->mixer.fifo[d];

		/* In the mixer, or in a message that is not full. */
		stats->dropped_us[d] += (fifo->taken + fifo->count) * 1000000 / link->mixer.rate_hz
			- stats->sent_us[d];
	}
}

static void finish(struct fork_link *link, const char *reason)
{
	struct fork_stats stats;
	char text[400];
	uint64_t lost_us;

	fork_wire_timer(link, -1);
	fork_wire_kill(link);
	atomic_store(&link->dead, true);
	fork_set_state(link, FORK_DONE);
	fork_guard_leave(&link->guard);
	fork_receive_lost(link);
	fork_link_stats(link, &stats);
	count_unsent(link, &stats);
	*(link->previous ? &link->previous->next : &links.first) = link->next;
	if (link->next) {
		link->next->previous = link->previous;
	}
	lost_us = stats.dropped_us[FORK_READ] + stats.dropped_us[FORK_WRITE];
	fork_say(lost_us ? FORK_LOG_NOTICE : FORK_LOG_VERBOSE, "%s ended: %s; captured %.2f s in, "
		"%.2f s out, sent %llu frames, lost %.2f s, %u connection(s)",
		fork_label(link, text, sizeof(text)), reason, stats.captured_us[FORK_READ] / 1e6,
		stats.captured_us[FORK_WRITE] / 1e6, (unsigned long long) stats.frames_sent,
		lost_us / 1e6, stats.connects);
	fork_note_disconnected(link, reason, -1);
	fork_tell_ended(link, reason, &stats);
	fork_link_unref(link);
}

static void finish_closed(struct fork_link *link)
{
	char reason[FORK_REASON_MAX];

	pthread_mutex_lock(&link->lock);
	memcpy(reason, link->close_reason, sizeof(reason));
	pthread_mutex_unlock(&link->lock);
	finish(link, reason);
}

/*! \brief Half to all of the doubled delay, so that forks do not come back in one crowd. */
static int64_t back_off_us(const struct fork_link *link)
{
	unsigned int doubling = link->failures ? link->failures - 1 : 0;
	uint64_t delay_ms = (uint64_t) link->params.delay_ms
		<< (doubling < LONGEST_DOUBLING ? doubling : LONGEST_DOUBLING);

	if (delay_ms > link->params.delay_max_ms) {
		delay_ms = link->params.delay_max_ms;
	}
	return (int64_t) (delay_ms * 500 + (uint64_t) random() % (delay_ms * 500 + 1));
}

/*!
 * \brief Whether the server's close code says that it wants no more.
 *
 * 1000 (done), 1003, 1007..1010 (what we send is wrong) and its own 4000..4999 are its last
 * word; 1001, 1005, 1006, 1011..1013 and a broken connection are mishaps.
 */
static bool final_word(int code)
{
	return code == 1000 || code == 1003 || (code >= 1007 && code <= 1010)
		|| (code >= 4000 && code <= 4999);
}

/*! \brief The attempt, or the connection, came to nothing: once more, or the end. */
static void attempt_failed(struct fork_link *link, const char *reason)
{
	const struct fork_link_params *p = &link->params;
	char why[FORK_REASON_MAX], text[400];
	int64_t delay_us;

	snprintf(why, sizeof(why), "%s", reason); /* `reason` may live in the link */
	link->failures++;
	fork_receive_lost(link);
	atomic_fetch_add(&link->failed, link->peer_code != 1000);
	if (link->flushing) {
		finish_closed(link);
		return;
	}
	if (!p->reconnect || final_word(link->peer_code)
		|| (p->attempts && link->failures > p->attempts)) {
		fork_say(link->peer_code == 1000 ? FORK_LOG_VERBOSE : FORK_LOG_WARNING,
			"%s: %s; no further attempt after %u", fork_label(link, text, sizeof(text)), why,
			link->turn);
		finish(link, why);
		return;
	}
	delay_us = back_off_us(link);
	fork_say(link->told ? FORK_LOG_DEBUG : FORK_LOG_WARNING,
		"%s: %s; trying again in %.1f s, then ever more slowly",
		fork_label(link, text, sizeof(text)), why, delay_us / 1e6);
	link->told = true;
	fork_note_disconnected(link, why, delay_us);
	fork_set_state(link, FORK_BACKOFF);
	fork_wire_timer(link, delay_us);
}

/*!
 * \brief Try the addresses of the host one after the other, from link->address on.
 *
 * All within the one connect timeout. The next attempt begins with the next address, so that
 * one that swallows connections does not hide the others.
 */
static void try_addresses(struct fork_link *link)
{
	fork_set_state(link, FORK_CONNECTING);
	while (link->address < link->addresses.count) {
		unsigned int which = (link->turn - 1 + link->address) % link->addresses.count;

		link->address++;
		if (!fork_wire_connect(link, link->addresses.numeric[which])) {
			return;
		}
	}
	attempt_failed(link, link->error);
}

/*! \brief On the resolver's thread. */
static void on_resolved(void *user, const struct fork_addresses *found, const char *error)
{
	struct fork_link *link = user;

	pthread_mutex_lock(&link->lock);
	link->found = *found;
	snprintf(link->resolve_error, sizeof(link->resolve_error), "%s", error);
	link->resolved = true;
	pthread_mutex_unlock(&link->lock);
	fork_tell_news(link);
	fork_link_unref(link);
}

static void start_attempt(struct fork_link *link)
{
	struct fork_url *url = &link->params.url;
	unsigned char binary[16];

	link->turn++;
	link->address = 0;
	fork_wire_timer(link, (int64_t) link->params.connect_timeout_ms * 1000);
	if (inet_pton(AF_INET, url->host, binary) == 1 || inet_pton(AF_INET6, url->host, binary) == 1) {
		link->addresses.count = 1;
		snprintf(link->addresses.numeric[0], FORK_ADDRESS_MAX, "%.*s", FORK_ADDRESS_MAX - 1,
			url->host);
		try_addresses(link);
		return;
	}
	fork_set_state(link, FORK_RESOLVING);
	fork_link_ref(link);
	if (fork_resolve(url->host, on_resolved, link)) {
		fork_link_unref(link);
		attempt_failed(link, "too many name look-ups");
	}
}

/*! \brief A look-up may have ended; a late one, of an attempt given up, serves as well. */
static void take_addresses(struct fork_link *link)
{
	char error[FORK_REASON_MAX];
	bool resolved;

	pthread_mutex_lock(&link->lock);
	resolved = link->resolved;
	link->resolved = false;
	link->addresses = link->found;
	snprintf(error, sizeof(error), "cannot find the host: %.100s", link->resolve_error);
	pthread_mutex_unlock(&link->lock);
	if (!resolved) {
		return;
	}
	if (link->addresses.count) {
		try_addresses(link);
	} else {
		attempt_failed(link, error);
	}
}

/*! \brief The owner has closed: what state are we in, and what is left to do? */
static void take_closing(struct fork_link *link)
{
	link->flushing = true;
	switch (atomic_load(&link->state)) {
	case FORK_UP:
		fork_wire_timer(link, (int64_t) link->params.flush_ms * 1000);
		fork_wire_want_write(link);
		fork_wire_read(link, true); /* its close frame is waited for */
		break;
	case FORK_RESOLVING:
	case FORK_CONNECTING:
		/* A short call may end before its connection is made: give it the same time. */
		fork_wire_timer(link, (int64_t) link->params.flush_ms * 1000);
		break;
	default:
		finish_closed(link);
		break;
	}
}

/*!
 * \brief Write now what has come, without asking for a turn at the socket first.
 *
 * Saves a turn of the loop for each frame. A full socket is no harm: libwebsockets keeps what
 * is left of the one frame, and from then on the link waits for its turn.
 */
static void write_by_hand(struct fork_link *link)
{
	if (!link->name_sent || link->flushing || fork_wire_pending(link)) {
		fork_wire_want_write(link);
		return;
	}
	if (fork_connection_writable(link)) {
		fork_wire_kill(link);
		fork_connection_down(link, "connection lost");
	}
}

void fork_handle_news(struct fork_link *link)
{
	if (atomic_load(&link->dead)) {
		return;
	}
	if (atomic_load(&link->state) == FORK_NEW) {
		if ((link->next = links.first)) {
			link->next->previous = link;
		}
		links.first = link;
		link->progress_us = fork_now_us();
		fork_tell_event(link, FORK_EVENT_OPENED, "", 0);
		start_attempt(link);
	}
	if (atomic_load(&link->state) == FORK_RESOLVING) {
		take_addresses(link);
	}
	if (atomic_load(&link->dead)) {
		return;
	}
	fork_note_overrun(link);
	fork_tell_plays(link);
	if (atomic_load(&link->closing) && !link->flushing) {
		take_closing(link);
	} else if (atomic_load(&link->state) == FORK_UP) {
		write_by_hand(link);
	}
}

void fork_pulse(void)
{
	struct fork_link *link, *next;

	/* write_by_hand() may end its link, and no other. */
	for (link = links.first; link; link = next) {
		next = link->next;
		if (!link->holding) {
			continue;
		}
		link->holding = false;
		if (atomic_load(&link->state) == FORK_UP && fork_mixer_waits(&link->mixer)) {
			write_by_hand(link);
		}
	}
}

/*! \brief To the next look; a guard's limit, should no key come, is told within a second of it. */
static int64_t tick_us(struct fork_link *link)
{
	int64_t limit_us = fork_guard_next_ms(&link->guard) * 1000 + 1000;

	return limit_us > 0 && limit_us < TICK_US ? limit_us : TICK_US;
}

/*! \brief The server takes nothing: is it lost? Is a guard's time over? */
static void check_stall(struct fork_link *link)
{
	uint64_t stall_us = (uint64_t) link->params.stall_timeout_ms * 1000;
	uint64_t now = fork_now_us();

	if (!fork_ring_waiting(&link->ring)) {
		link->progress_us = now;
	}
	if (stall_us && now - link->progress_us > stall_us) {
		fork_wire_kill(link);
		attempt_failed(link, "the server has taken no audio for too long");
		return;
	}
	if (fork_guard_look(&link->guard)) {
		fork_wire_want_write(link);
	}
	fork_wire_timer(link, tick_us(link));
}

void fork_timer_fired(struct fork_link *link)
{
	if (link->flushing) {
		finish_closed(link);
		return;
	}
	switch (atomic_load(&link->state)) {
	case FORK_RESOLVING:
		attempt_failed(link, "timeout looking the host up");
		break;
	case FORK_CONNECTING:
		fork_wire_kill(link);
		attempt_failed(link, "timeout connecting (no answer, or no end of the handshake)");
		break;
	case FORK_BACKOFF:
		start_attempt(link);
		break;
	case FORK_UP:
		check_stall(link);
		break;
	default:
		break;
	}
}

void fork_connection_up(struct fork_link *link)
{
	unsigned int connects = atomic_fetch_add(&link->connects, 1) + 1;
	char text[400];

	fork_set_state(link, FORK_UP);
	link->name_sent = false;
	link->told_of.hangup = link->told_of.stop = false;
	link->told_of.errors = 0;
	link->holding = false;
	link->up_us = link->progress_us = fork_now_us();
	if (connects > 1 || link->told) {
		struct fork_stats stats;

		fork_link_stats(link, &stats);
		fork_say(FORK_LOG_NOTICE, "%s: connected again, %llu ms of audio lost so far",
			fork_label(link, text, sizeof(text)), (unsigned long long)
			((stats.dropped_us[FORK_READ] + stats.dropped_us[FORK_WRITE]) / 1000));
	} else {
		fork_say(FORK_LOG_VERBOSE, "%s: connected", fork_label(link, text, sizeof(text)));
	}
	link->told = false;
	fork_note_connected(link);
	if (!link->flushing) {
		fork_wire_timer(link, TICK_US);
	}
	fork_wire_want_write(link);
}

void fork_connection_down(struct fork_link *link, const char *reason)
{
	if (atomic_load(&link->state) == FORK_CONNECTING
		&& link->address < link->addresses.count) {
		try_addresses(link);
		return;
	}
	if (link->flushing) {
		finish_closed(link);
		return;
	}
	if (atomic_load(&link->state) == FORK_UP && fork_now_us() - link->up_us > STABLE_US) {
		link->failures = 0;
	}
	attempt_failed(link, reason);
}
