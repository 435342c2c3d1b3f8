/*
 * asterisk-dialog: keys on their way to the server.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief Bounded queue of keys, and of guards between them, to the service thread: no lock.
 *
 * Invariants
 * - `tail <= head <= tail + FORK_DIGITS_MAX`; both only grow. Key n lives in slot n % max.
 * - The producer alone moves `head`, the consumer alone `tail`: there is one of each at a time
 *   (fork_guard.h). A full queue takes no more: a key is told late, but in order, or it is counted
 *   as lost.
 * - A key knows the ring's head at its time: the audio before it has been taken from the ring, or
 *   dropped there, once the ring's tail has come so far.
 */

#ifndef FORK_DIGITS_H
#define FORK_DIGITS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "fork_keys.h"

#define FORK_DIGITS_MAX 64

struct fork_digit {
	uint64_t cell;      /*!< the first one captured after it */
	uint32_t duration_ms;
	uint8_t verdict;    /*!< enum fork_key_verdict */
	char digit;
	bool guard;         /*!< no key: the next of the guards that are told */
};

struct fork_digits {
	struct fork_digit slots[FORK_DIGITS_MAX];
	_Atomic unsigned int head, tail;
	_Atomic unsigned int taken, lost; /*!< keys */
};

/*! \brief Producer: whether one more would be taken. */
static inline bool fork_digits_room(struct fork_digits *q)
{
	return atomic_load_explicit(&q->head, memory_order_relaxed)
		- atomic_load_explicit(&q->tail, memory_order_acquire) < FORK_DIGITS_MAX;
}

/*! \brief Producer: append a key. \retval false there is no room: counted */
static inline bool fork_digits_push(struct fork_digits *q, const struct fork_digit *digit)
{
	unsigned int head = atomic_load_explicit(&q->head, memory_order_relaxed);

	if (!fork_digits_room(q)) {
		atomic_fetch_add_explicit(&q->lost, !digit->guard, memory_order_relaxed);
		return false;
	}
	q->slots[head % FORK_DIGITS_MAX] = *digit;
	atomic_fetch_add_explicit(&q->taken, !digit->guard, memory_order_relaxed);
	atomic_store_explicit(&q->head, head + 1, memory_order_release);
	return true;
}

/*! \brief Consumer: the oldest key, which stays; NULL: there is none. */
static inline const struct fork_digit *fork_digits_first(struct fork_digits *q)
{
	unsigned int tail = atomic_load_explicit(&q->tail, memory_order_relaxed);

	if (tail == atomic_load_explicit(&q->head, memory_order_acquire)) {
		return NULL;
	}
	return &q->slots[tail % FORK_DIGITS_MAX];
}

/*! \brief Consumer: done with the oldest key. */
static inline void fork_digits_pop(struct fork_digits *q)
{
	atomic_fetch_add_explicit(&q->tail, 1, memory_order_release);
}

#endif /* FORK_DIGITS_H */
