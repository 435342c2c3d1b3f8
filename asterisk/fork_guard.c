/*
 * asterisk-dialog: a fork's hand on the keys of its channel.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

#include "fork_guard.h"

#include <stdio.h>
#include <string.h>

/* The last number given: an order over all forks, so that of two on one channel the later wins. */
static _Atomic uint64_t numbers;

const char *fork_guard_why_name(enum fork_guard_why why)
{
	static const char *const names[] = {
		[FORK_GUARD_ASKED] = "asked", [FORK_GUARD_PLACE] = "place", [FORK_GUARD_LIMIT] = "limit",
	};

	return names[why];
}

void fork_guard_init(struct fork_guard *g, const _Atomic uint64_t *cells, uint64_t (*now_ms)(void))
{
	memset(g, 0, sizeof(*g));
	g->now_ms = now_ms;
	g->cells = cells;
	pthread_mutex_init(&g->lock, NULL);
}

void fork_guard_destroy(struct fork_guard *g)
{
	pthread_mutex_destroy(&g->lock);
}

/* ---- what is told; the lock is held ---- */

static bool has_room(struct fork_guard *g)
{
	return g->note_head - g->note_tail < FORK_GUARD_NOTES_MAX && fork_digits_room(&g->digits);
}

static void add_note(struct fork_guard *g, const struct fork_guard_note *note)
{
	const struct fork_digit entry = { .guard = true,
		.cell = atomic_load_explicit(g->cells, memory_order_relaxed) };

	if (!has_room(g)) {
		atomic_fetch_add_explicit(&g->lost, 1, memory_order_relaxed);
		return;
	}
	g->notes[g->note_head++ % FORK_GUARD_NOTES_MAX] = *note;
	fork_digits_push(&g->digits, &entry);
}

/*! \brief Note that the limit is over, if it is. */
static bool look(struct fork_guard *g, uint64_t now_ms)
{
	struct fork_guard_note note = { .mode = FORK_KEYS_PASS, .why = FORK_GUARD_LIMIT };
	uint64_t until_ms = atomic_load_explicit(&g->until_ms, memory_order_relaxed);

	if (!until_ms || now_ms < until_ms) {
		return false;
	}
	atomic_store(&g->until_ms, 0);
	snprintf(note.name, sizeof(note.name), "%s", g->name);
	add_note(g, &note);
	return true;
}

/* ---- wishes; the lock is held ---- */

/*! \brief The newest two are one: nobody has looked between them. */
static void fold(struct fork_wish *older, const struct fork_wish *newer)
{
	enum fork_kept kept = newer->order.kept;

	/* Taken is taken, whichever of the two does it; else released, if one of them does. */
	if (kept == FORK_KEPT_STAY || older->order.kept == FORK_KEPT_TAKE) {
		kept = older->order.kept;
	}
	*older = *newer;
	older->order.kept = kept;
}

static void add_wish(struct fork_guard *g, const struct fork_keys_order *order, bool leave)
{
	struct fork_wish wish = { .order = *order, .leave = leave,
		.number = atomic_fetch_add(&numbers, 1) + 1 };

	g->number = wish.number;
	if (g->count == FORK_WISHES_MAX) {
		fold(&g->wishes[(g->first + g->count - 1) % FORK_WISHES_MAX], &wish);
	} else {
		g->wishes[(g->first + g->count++) % FORK_WISHES_MAX] = wish;
	}
	atomic_store(&g->waits, g->wishes[g->first].number);
}

/*! \brief Post it and note it. A limit that is over by now is noted before. */
static void post(struct fork_guard *g, const struct fork_guard_ask *ask,
	struct fork_guard_note *note)
{
	struct fork_keys_order order = ask->order;
	uint64_t now_ms = g->now_ms();

	look(g, now_ms);
	order.until_ms = ask->limit_ms ? now_ms + ask->limit_ms : 0;
	atomic_store(&g->until_ms, order.until_ms);
	snprintf(g->name, sizeof(g->name), "%s", ask->name);
	add_wish(g, &order, false);
	snprintf(note->name, sizeof(note->name), "%s", ask->name);
	note->mode = order.mode;
	add_note(g, note);
}

/* ---- any thread ---- */

const char *fork_guard_now(struct fork_guard *g, const struct fork_guard_ask *ask)
{
	struct fork_guard_note note = { .why = FORK_GUARD_ASKED };
	const char *why = NULL;

	pthread_mutex_lock(&g->lock);
	if (g->left) {
		why = "the fork is being stopped";
	} else if (!has_room(g)) {
		why = "too many keys and guards are waiting to be told";
	} else {
		post(g, ask, &note);
	}
	pthread_mutex_unlock(&g->lock);
	return why;
}

void fork_guard_at(struct fork_guard *g, const struct fork_guard_ask *ask, const char *play,
	uint64_t played_ms)
{
	struct fork_guard_note note = { .why = FORK_GUARD_PLACE, .played_ms = played_ms };

	snprintf(note.play, sizeof(note.play), "%s", play);
	pthread_mutex_lock(&g->lock);
	if (!g->left) {
		post(g, ask, &note);
	}
	pthread_mutex_unlock(&g->lock);
}

bool fork_guard_key(struct fork_guard *g, const struct fork_key *key,
	enum fork_key_verdict verdict)
{
	struct fork_digit entry = { .duration_ms = key->duration_ms, .verdict = (uint8_t) verdict,
		.digit = key->digit };
	bool pushed;

	pthread_mutex_lock(&g->lock);
	look(g, g->now_ms());
	entry.cell = atomic_load_explicit(g->cells, memory_order_relaxed);
	pushed = fork_digits_push(&g->digits, &entry);
	pthread_mutex_unlock(&g->lock);
	return pushed;
}

bool fork_guard_look(struct fork_guard *g)
{
	bool over;

	if (!atomic_load_explicit(&g->until_ms, memory_order_relaxed)) {
		return false;
	}
	pthread_mutex_lock(&g->lock);
	over = look(g, g->now_ms());
	pthread_mutex_unlock(&g->lock);
	return over;
}

void fork_guard_leave(struct fork_guard *g)
{
	const struct fork_keys_order open = { .mode = FORK_KEYS_PASS, .kept = FORK_KEPT_STAY };

	pthread_mutex_lock(&g->lock);
	/* Who has never wished has nothing to take back. */
	if (!g->left && g->number) {
		add_wish(g, &open, true);
	}
	g->left = true;
	atomic_store(&g->until_ms, 0);
	pthread_mutex_unlock(&g->lock);
}

/* ---- the channel's side ---- */

bool fork_guard_take(struct fork_guard *g, struct fork_wish *wish)
{
	bool found;

	if (!atomic_load(&g->waits)) {
		return false;
	}
	pthread_mutex_lock(&g->lock);
	if ((found = g->count)) {
		*wish = g->wishes[g->first];
		g->first = (g->first + 1) % FORK_WISHES_MAX;
		g->count--;
	}
	atomic_store(&g->waits, g->count ? g->wishes[g->first].number : 0);
	pthread_mutex_unlock(&g->lock);
	return found;
}

void fork_guard_over(struct fork_guard *g, uint64_t number)
{
	pthread_mutex_lock(&g->lock);
	if (g->number == number) {
		look(g, g->now_ms());
		atomic_store(&g->until_ms, 0);
	}
	pthread_mutex_unlock(&g->lock);
}

/* ---- the service thread ---- */

int64_t fork_guard_next_ms(struct fork_guard *g)
{
	uint64_t until_ms = atomic_load(&g->until_ms), now_ms;

	if (!until_ms) {
		return -1;
	}
	now_ms = g->now_ms();
	return until_ms > now_ms ? (int64_t) (until_ms - now_ms) : 0;
}

void fork_guard_note(struct fork_guard *g, struct fork_guard_note *note)
{
	pthread_mutex_lock(&g->lock);
	*note = g->notes[g->note_tail++ % FORK_GUARD_NOTES_MAX];
	pthread_mutex_unlock(&g->lock);
}
