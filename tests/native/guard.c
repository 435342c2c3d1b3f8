/*
 * asterisk-dialog: a fork's hand on the keys, for ctypes.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief Plain functions around fork_guard, callable from Python. The clock is the caller's.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fork_guard.h"

static uint64_t clock_ms;
static _Atomic uint64_t cells;

static uint64_t now_ms(void)
{
	return clock_ms;
}

void guard_clock(unsigned long long ms)
{
	clock_ms = ms;
}

void guard_cells(unsigned long long count)
{
	cells = count;
}

struct fork_guard *guard_new(void)
{
	struct fork_guard *g = malloc(sizeof(*g));

	if (g) {
		fork_guard_init(g, &cells, now_ms);
	}
	return g;
}

void guard_free(struct fork_guard *g)
{
	fork_guard_destroy(g);
	free(g);
}

static struct fork_guard_ask ask_of(const char *name, const char *mode, int kept,
	unsigned int limit_ms)
{
	struct fork_guard_ask ask = { .limit_ms = limit_ms,
		.order = { .kept = (enum fork_kept) kept } };

	snprintf(ask.name, sizeof(ask.name), "%s", name);
	fork_keys_mode_parse(mode, &ask.order.mode, &ask.order.stopped);
	return ask;
}

const char *guard_now(struct fork_guard *g, const char *name, const char *mode, int kept,
	unsigned int limit_ms)
{
	struct fork_guard_ask ask = ask_of(name, mode, kept, limit_ms);

	return fork_guard_now(g, &ask);
}

void guard_at(struct fork_guard *g, const char *name, const char *mode, unsigned int limit_ms,
	const char *play, unsigned long long played_ms)
{
	struct fork_guard_ask ask = ask_of(name, mode, FORK_KEPT_TAKE, limit_ms);

	fork_guard_at(g, &ask, play, played_ms);
}

int guard_key(struct fork_guard *g, char digit)
{
	const struct fork_key key = { .digit = digit, .duration_ms = 100 };

	return fork_guard_key(g, &key, FORK_KEY_PASSED);
}

/*! \brief The oldest wish, taken: "number mode stopped kept until leave"; empty: there is none. */
void guard_take(struct fork_guard *g, char *out, size_t size)
{
	struct fork_wish wish;

	out[0] = '\0';
	if (fork_guard_take(g, &wish)) {
		snprintf(out, size, "%llu %s %x %s %llu %d", (unsigned long long) wish.number,
			fork_keys_mode_name(wish.order.mode), wish.order.stopped,
			fork_kept_name(wish.order.kept), (unsigned long long) wish.order.until_ms, wish.leave);
	}
}

/*! \brief What is told next: "cell key 5" or "cell name mode why [play played_ms]". */
void guard_told(struct fork_guard *g, char *out, size_t size)
{
	const struct fork_digit *first = fork_digits_first(&g->digits);
	struct fork_guard_note note;

	out[0] = '\0';
	if (!first) {
		return;
	}
	if (first->guard) {
		fork_guard_note(g, &note);
		snprintf(out, size, "%d %s %s %s", (int) first->cell, note.name,
			fork_keys_mode_name(note.mode), fork_guard_why_name(note.why));
		if (note.why == FORK_GUARD_PLACE) {
			snprintf(out + strlen(out), size - strlen(out), " %s %d", note.play,
				(int) note.played_ms);
		}
	} else {
		snprintf(out, size, "%d key %c", (int) first->cell, first->digit);
	}
	fork_digits_pop(&g->digits);
}

/*! \brief Keys taken, keys lost, guards lost. */
void guard_counts(struct fork_guard *g, unsigned int counts[3])
{
	counts[0] = g->digits.taken;
	counts[1] = g->digits.lost;
	counts[2] = g->lost;
}
