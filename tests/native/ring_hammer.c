/*
 * asterisk-dialog: a hammer for the ring.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief One producer, one consumer, a small ring: no torn cell, none twice, none lost uncounted.
 *
 * ring_hammer CELLS PUSHES PAUSE: the consumer sleeps 1 ms after each PAUSE cells (0: never).
 * Prints what was pushed, taken and dropped; exits 1 at the first lie.
 */

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "fork_ring.h"

static struct fork_ring ring;
static _Atomic bool produced;
static unsigned long pushes, pause_every;

/*! \brief Cell n, whole: all can be told from its number. */
static void make_cell(struct fork_cell *cell, uint64_t n)
{
	memset(cell, 0, sizeof(*cell));
	cell->time_us = n;
	cell->rate_hz = 8000;
	cell->count = (uint16_t) (1 + n * 7 % FORK_CELL_SAMPLES);
	cell->direction = n & 1;
	cell->silent = n % 5 == 0;
	for (int i = 0; i < cell->count && !cell->silent; i++) {
		cell->samples[i] = (int16_t) (n * 31 + (uint64_t) i);
	}
}

static int same_cell(const struct fork_cell *a, const struct fork_cell *b)
{
	return a->time_us == b->time_us && a->rate_hz == b->rate_hz && a->count == b->count
		&& a->direction == b->direction && a->silent == b->silent
		&& (a->silent || !memcmp(a->samples, b->samples, a->count * sizeof(*a->samples)));
}

static void *produce(void *unused)
{
	struct fork_cell cell;

	(void) unused;
	for (uint64_t n = 1; n <= pushes; n++) {
		make_cell(&cell, n);
		fork_ring_push(&ring, &cell);
	}
	atomic_store(&produced, true);
	return NULL;
}

/*! \brief Take until the producer is done and the ring is empty. \return cells taken, 0: a lie */
static unsigned long consume(uint64_t *taken_us)
{
	struct timespec nap = { .tv_nsec = 1000000 };
	struct fork_cell cell, wanted;
	unsigned long taken = 0;
	uint64_t last = 0;

	for (;;) {
		bool done = atomic_load(&produced);

		if (!fork_ring_pop(&ring, &cell)) {
			if (done) {
				return taken;
			}
			continue;
		}
		make_cell(&wanted, cell.time_us);
		if (cell.time_us <= last || !same_cell(&cell, &wanted)) {
			fprintf(stderr, "cell %lu after %lu is torn or out of order\n",
				(unsigned long) cell.time_us, (unsigned long) last);
			return 0;
		}
		last = cell.time_us;
		taken++;
		*taken_us += fork_cell_us(&cell);
		if (pause_every && taken % pause_every == 0) {
			nanosleep(&nap, NULL);
		}
	}
}

int main(int argc, char **argv)
{
	unsigned long cells = argc > 1 ? strtoul(argv[1], NULL, 10) : 8;
	uint64_t pushed_us = 0, taken_us = 0, dropped_us;
	struct fork_cell cell;
	unsigned long taken;
	pthread_t producer;
	void *memory = malloc(FORK_RING_BYTES(cells));

	pushes = argc > 2 ? strtoul(argv[2], NULL, 10) : 100000;
	pause_every = argc > 3 ? strtoul(argv[3], NULL, 10) : 0;
	for (uint64_t n = 1; n <= pushes; n++) {
		make_cell(&cell, n);
		pushed_us += fork_cell_us(&cell);
	}
	fork_ring_init(&ring, memory, cells);
	if (pthread_create(&producer, NULL, produce, NULL)) {
		return 1;
	}
	taken = consume(&taken_us);
	pthread_join(producer, NULL);
	dropped_us = ring.dropped_us[FORK_READ] + ring.dropped_us[FORK_WRITE];
	free(memory);
	printf("{\"pushed\": %lu, \"taken\": %lu, \"pushed_us\": %lu, \"taken_us\": %lu, "
		"\"dropped_us\": %lu}\n", pushes, taken, (unsigned long) pushed_us,
		(unsigned long) taken_us, (unsigned long) dropped_us);
	return !taken || taken_us + dropped_us != pushed_us;
}
