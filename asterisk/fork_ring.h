/*
 * asterisk-dialog: the bounded ring between a channel's thread and the service thread.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief Bounded, overwriting ring of audio cells: one producer, one consumer, no lock.
 *
 * Invariants
 * - `tail <= head <= tail + cells`; both only grow. Cell n lives in slot n % cells.
 * - Only the producer moves `head`. `tail` is moved by the consumer (it took a cell) and
 *   by the producer (the ring is full: the oldest cell is dropped and counted), always by
 *   compare-and-swap, so each cell is either taken or dropped, exactly once.
 * - The consumer copies a cell before it claims it. Should the producer overwrite the slot
 *   meanwhile, it has moved `tail` first, the claim fails and the torn copy is thrown away.
 *   The payload is therefore kept in atomic words: a torn copy is possible, a data race not.
 * - One producer: both directions of a channel come under the lock of its audiohook.
 *
 * Nothing here allocates, blocks, logs or makes a system call.
 */

#ifndef FORK_RING_H
#define FORK_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/*! Samples in a full cell: 20 ms at 8 kHz. A longer frame takes several cells. */
#define FORK_CELL_SAMPLES 160
#define FORK_CELL_WORDS (2 + FORK_CELL_SAMPLES / 4)

enum fork_direction {
	FORK_READ = 0,  /*!< read from the channel: the caller's voice */
	FORK_WRITE = 1, /*!< written to the channel: what the caller hears */
	FORK_DIRECTIONS = 2,
};

/*! \brief Some samples of one direction, as captured. */
struct fork_cell {
	uint64_t time_us;  /*!< monotonic time of capture */
	uint32_t rate_hz;
	uint16_t count;    /*!< samples, 1 .. FORK_CELL_SAMPLES */
	uint8_t direction; /*!< enum fork_direction */
	uint8_t silent;    /*!< muted: `samples` is not set and stands for zeros */
	int16_t samples[FORK_CELL_SAMPLES];
};

_Static_assert(sizeof(struct fork_cell) == FORK_CELL_WORDS * sizeof(uint64_t),
	"a cell is copied word by word");

struct fork_ring {
	uint64_t cells;
	_Atomic uint64_t *words;
	_Alignas(64) _Atomic uint64_t head; /*!< next cell to be written */
	_Alignas(64) _Atomic uint64_t tail; /*!< next cell to be read */
	/*! Microseconds of audio lost because the consumer was too slow, by direction. */
	_Atomic uint64_t dropped_us[FORK_DIRECTIONS];
};

/*! \brief Length of the audio in a cell. */
static inline uint64_t fork_cell_us(const struct fork_cell *cell)
{
	return cell->rate_hz ? (uint64_t) cell->count * 1000000 / cell->rate_hz : 0;
}

/*! Bytes of memory for a ring of so many cells. */
#define FORK_RING_BYTES(cells) ((size_t) (cells) * sizeof(struct fork_cell))

/*! \brief Set up an empty ring. \param memory FORK_RING_BYTES(cells), the owner's \param cells > 0 */
static inline void fork_ring_init(struct fork_ring *ring, void *memory, size_t cells)
{
	memset(ring, 0, sizeof(*ring));
	ring->words = memory;
	ring->cells = cells;
}

static inline _Atomic uint64_t *fork_ring_slot(struct fork_ring *ring, uint64_t n)
{
	return ring->words + (n % ring->cells) * FORK_CELL_WORDS;
}

/*! \brief Words of a cell that carry something. */
static inline size_t fork_cell_words(const struct fork_cell *cell)
{
	return 2 + (cell->silent ? 0 : ((size_t) cell->count + 3) / 4);
}

/*! \brief Producer: drop the oldest cell, unless the consumer takes it at this moment. */
static inline void fork_ring_drop_oldest(struct fork_ring *ring, uint64_t tail)
{
	struct fork_cell header;
	uint64_t words[2];
	_Atomic uint64_t *slot = fork_ring_slot(ring, tail);

	words[0] = atomic_load_explicit(&slot[0], memory_order_relaxed);
	words[1] = atomic_load_explicit(&slot[1], memory_order_relaxed);
	if (!atomic_compare_exchange_strong_explicit(&ring->tail, &tail, tail + 1,
		memory_order_acq_rel, memory_order_acquire)) {
		return;
	}
	/* The claim must be seen before the first overwritten word. */
	atomic_thread_fence(memory_order_seq_cst);
	memcpy(&header, words, sizeof(words));
	atomic_fetch_add_explicit(&ring->dropped_us[header.direction & 1],
		fork_cell_us(&header), memory_order_relaxed);
}

/*! \brief Producer: append a cell, at the price of the oldest when the ring is full. */
static inline void fork_ring_push(struct fork_ring *ring, const struct fork_cell *cell)
{
	const char *bytes = (const char *) cell;
	uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
	uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
	_Atomic uint64_t *slot = fork_ring_slot(ring, head);
	size_t n = fork_cell_words(cell);

	if (head - tail >= ring->cells) {
		fork_ring_drop_oldest(ring, tail);
	}
	for (size_t i = 0; i < n; i++) {
		uint64_t word;

		memcpy(&word, bytes + i * sizeof(word), sizeof(word));
		atomic_store_explicit(&slot[i], word, memory_order_relaxed);
	}
	atomic_store_explicit(&ring->head, head + 1, memory_order_release);
}

/*! \brief Consumer: take the oldest cell. \retval false nothing there */
static inline bool fork_ring_pop(struct fork_ring *ring, struct fork_cell *cell)
{
	uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);

	for (;;) {
		char *bytes = (char *) cell;
		_Atomic uint64_t *slot = fork_ring_slot(ring, tail);
		size_t n = 2;

		if (tail == atomic_load_explicit(&ring->head, memory_order_acquire)) {
			return false;
		}
		for (size_t i = 0; i < n; i++) {
			uint64_t word = atomic_load_explicit(&slot[i], memory_order_relaxed);

			memcpy(bytes + i * sizeof(word), &word, sizeof(word));
			if (i == 1) {
				/* A torn header may hold any count: stay inside the cell. */
				n = fork_cell_words(cell);
				n = n > FORK_CELL_WORDS ? FORK_CELL_WORDS : n;
			}
		}
		atomic_thread_fence(memory_order_acquire);
		if (atomic_compare_exchange_strong_explicit(&ring->tail, &tail, tail + 1,
			memory_order_acq_rel, memory_order_acquire)) {
			return true;
		}
	}
}

/*! \brief Cells waiting. Exact for the consumer, a guess for anybody else. */
static inline uint64_t fork_ring_waiting(struct fork_ring *ring)
{
	uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);

	return atomic_load_explicit(&ring->head, memory_order_acquire) - tail;
}

#endif /* FORK_RING_H */
