/*
 * asterisk-dialog: a hammer for guards.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief A server, a player and a caller at once: each guard and key told once and in order.
 *
 * guard_hammer KEYS: the caller's thread presses as many keys and takes wishes before each, as a
 * channel does; the player's posts guards by their places; the service thread posts some at once,
 * looks at the limit and reads what is told. Prints what it has seen; exits 1 at the first lie.
 */

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "fork_guard.h"

static struct fork_guard guard;
static _Atomic uint64_t cells, clock_ms;
static _Atomic bool pressed, played;
static _Atomic unsigned int lies, places;
static unsigned int presses, wishes;

static uint64_t now_ms(void)
{
	return atomic_fetch_add(&clock_ms, 1) + 1;
}

static struct fork_guard_ask ask(char who, unsigned int number)
{
	struct fork_guard_ask a = { .limit_ms = number % 3 ? 0 : 5,
		.order = { .mode = number % 2 ? FORK_KEYS_BLOCK : FORK_KEYS_PASS, .stopped = 0xffff } };

	snprintf(a.name, sizeof(a.name), "%c%u", who, number);
	return a;
}

/*! \brief A mode that is older than one taken before is a lie. */
static void take_wishes(uint64_t *last)
{
	struct fork_wish wish;

	while (fork_guard_take(&guard, &wish)) {
		lies += wish.number <= *last || wish.leave;
		*last = wish.number;
		wishes++;
	}
}

/*! \brief Keys carry their number. On a busy machine they are over before others had a turn: it goes
 * on until enough was wished, too. */
static void *press_all(void *unused)
{
	uint64_t last = 0;

	(void) unused;
	for (unsigned int n = 0; n < presses; n++) {
		const struct fork_key key = { .digit = '5', .duration_ms = n };

		take_wishes(&last);
		atomic_fetch_add(&cells, 1);
		fork_guard_key(&guard, &key, FORK_KEY_PASSED);
		if (n % 5 == 0) {
			fork_guard_over(&guard, last);
			sched_yield();
		}
	}
	while (wishes < presses / 100 || places < presses / 10) {
		take_wishes(&last);
		sched_yield();
	}
	pressed = true;
	return NULL;
}

static void *play_all(void *unused)
{
	(void) unused;
	while (!pressed) {
		struct fork_guard_ask a = ask('p', places);

		fork_guard_at(&guard, &a, "prompt", places);
		places++;
		sched_yield();
	}
	played = true;
	return NULL;
}

static struct {
	unsigned int keys, guards, limits;
	unsigned int next_key, next[2];
	uint64_t cell;
} seen;

/*! \brief Numbers of each kind grow, and so do the places in the stream. */
static bool read_one(void)
{
	const struct fork_digit *first = fork_digits_first(&guard.digits);
	struct fork_guard_note note;
	unsigned int number;

	if (!first) {
		return false;
	}
	lies += first->cell < seen.cell;
	seen.cell = first->cell;
	if (!first->guard) {
		lies += first->duration_ms < seen.next_key;
		seen.next_key = first->duration_ms + 1;
		seen.keys++;
	} else {
		fork_guard_note(&guard, &note);
		number = (unsigned int) atoi(note.name + 1);
		if (note.why == FORK_GUARD_LIMIT) {
			lies += note.mode != FORK_KEYS_PASS || number % 3;
			seen.limits++;
		} else {
			bool place = note.why == FORK_GUARD_PLACE;

			lies += note.name[0] != (place ? 'p' : 's') || number < seen.next[place];
			lies += place && (note.played_ms != number || !note.play[0]);
			seen.next[place] = number + 1;
			seen.guards++;
		}
	}
	fork_digits_pop(&guard.digits);
	return true;
}

int main(int argc, char **argv)
{
	unsigned int asked = 0, refused = 0;
	pthread_t caller, player;

	presses = argc > 1 ? (unsigned int) atoi(argv[1]) : 1000;
	fork_guard_init(&guard, &cells, now_ms);
	if (pthread_create(&caller, NULL, press_all, NULL)
		|| pthread_create(&player, NULL, play_all, NULL)) {
		return 1;
	}
	for (unsigned int turn = 0; !played; turn++) {
		if (turn % 4 == 0) {
			struct fork_guard_ask a = ask('s', asked);

			refused += fork_guard_now(&guard, &a) != NULL;
			asked++;
		}
		fork_guard_look(&guard);
		while (read_one()) {
		}
	}
	pthread_join(caller, NULL);
	pthread_join(player, NULL);
	while (read_one()) {
	}
	lies += fork_guard_next_ms(&guard) < -1;
	printf("{\"keys\": %u, \"keys_lost\": %u, \"keys_pressed\": %u, \"guards\": %u, "
		"\"guards_lost\": %u, \"guards_posted\": %u, \"limits\": %u, \"wishes\": %u, "
		"\"lies\": %u}\n", seen.keys, guard.digits.lost, presses, seen.guards, guard.lost,
		places + asked - refused, seen.limits, wishes, lies);
	fork_guard_destroy(&guard);
	return lies != 0;
}
