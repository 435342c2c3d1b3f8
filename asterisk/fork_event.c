/*
 * asterisk-dialog: what the owner of a link is told.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief Connections made and lost, audio dropped by the ring: each told once, in order.
 */

#include "fork_link.h"

#define OVERRUN_PAUSE_US 1000000

static uint64_t ring_dropped_us(struct fork_link *link)
{
	return atomic_load_explicit(&link->ring.dropped_us[FORK_READ], memory_order_relaxed)
		+ atomic_load_explicit(&link->ring.dropped_us[FORK_WRITE], memory_order_relaxed);
}

void fork_note_connected(struct fork_link *link)
{
	link->connected = true;
	fork_tell_event(link, FORK_EVENT_CONNECTED, "", 0);
}

void fork_note_disconnected(struct fork_link *link, const char *reason, int64_t retry_us)
{
	if (link->connected) {
		link->connected = false;
		fork_tell_event(link, FORK_EVENT_DISCONNECTED, reason,
			retry_us < 0 ? -1 : retry_us / 1000);
	}
}

bool fork_overrun_due(struct fork_link *link, uint64_t now_us)
{
	return ring_dropped_us(link)
		!= atomic_load_explicit(&link->overrun_told_us, memory_order_relaxed)
		&& now_us >= atomic_load_explicit(&link->overrun_next_us, memory_order_relaxed);
}

void fork_note_overrun(struct fork_link *link)
{
	uint64_t now_us = fork_now_us();
	uint64_t dropped_us, before_us;

	if (!fork_overrun_due(link, now_us)) {
		return;
	}
	dropped_us = ring_dropped_us(link);
	before_us = atomic_exchange(&link->overrun_told_us, dropped_us);
	atomic_store(&link->overrun_next_us, now_us + OVERRUN_PAUSE_US);
	atomic_fetch_add(&link->overruns, 1);
	fork_tell_event(link, FORK_EVENT_OVERRUN, "", (int64_t) ((dropped_us - before_us) / 1000));
}
