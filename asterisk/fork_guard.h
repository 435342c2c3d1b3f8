/*
 * asterisk-dialog: a fork's hand on the keys of its channel.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief What a server orders for the keys, on its way to them; and what it is told of them.
 *
 * An order is a wish here until the channel's side takes it. That looks for wishes before it
 * judges a key, so a wish is in force for the next key that goes down as soon as it is posted,
 * be it by the service thread, at once, or by the player's, at a place of a prompt. Wishes are
 * numbered over all forks: the later one wins.
 *
 * Keys and guards are told through one queue: their order is the one in which they happened.
 *
 * The lock is a leaf, held for a copy of some hundred bytes, and not taken where there is no wish
 * and nothing to tell. No allocation, socket, Asterisk; the clock is given.
 */

#ifndef FORK_GUARD_H
#define FORK_GUARD_H

#include <pthread.h>

#include "fork_digits.h"
#include "fork_message.h"
#include "fork_wish.h"

/*! Wishes that nobody has taken yet; of more the last two become one. */
#define FORK_WISHES_MAX 8
/*! Guards that are waiting to be told. */
#define FORK_GUARD_NOTES_MAX 16

enum fork_guard_why {
	FORK_GUARD_ASKED,
	FORK_GUARD_PLACE,         /*!< playback was there */
	FORK_GUARD_LIMIT,         /*!< its time is over */
};

/*! \brief What a server is told. */
struct fork_guard_note {
	char name[FORK_ID_MAX];
	char play[FORK_ID_MAX];   /*!< of PLACE, with played_ms */
	uint64_t played_ms;
	enum fork_keys_mode mode;
	enum fork_guard_why why;
};

struct fork_guard {
	uint64_t (*now_ms)(void);      /*!< the clock that keys are judged by */
	const _Atomic uint64_t *cells; /*!< captured so far: a key's place in the stream */
	struct fork_digits digits;     /*!< keys and, with `guard` set, the next of the notes */
	_Atomic uint64_t waits;        /*!< number of the oldest wish, 0: there is none */
	_Atomic uint64_t until_ms;     /*!< the limit that is to be told, 0: none */
	_Atomic unsigned int lost;     /*!< notes that found no room */

	pthread_mutex_t lock;          /*!< guards all that follows, and appending to `digits` */
	bool left;                     /*!< the fork has ended: nothing more is wished */
	struct fork_wish wishes[FORK_WISHES_MAX]; /*!< a ring */
	unsigned int first, count;
	uint64_t number;               /*!< of the wish that the limit is of */
	char name[FORK_ID_MAX];        /*!< and its name */
	struct fork_guard_note notes[FORK_GUARD_NOTES_MAX];
	unsigned int note_head, note_tail; /*!< both only grow */
};

const char *fork_guard_why_name(enum fork_guard_why why);

/*! \param cells captured so far, for as long as the guard lives */
void fork_guard_init(struct fork_guard *g, const _Atomic uint64_t *cells,
	uint64_t (*now_ms)(void));
void fork_guard_destroy(struct fork_guard *g);

/* ---- any thread ---- */

/*!
 * \brief In force from now on.
 * \retval NULL done, else what is wrong; then nothing is changed
 */
const char *fork_guard_now(struct fork_guard *g, const struct fork_guard_ask *ask);
/*! \brief In force from now on, for playback is there; it always is. */
void fork_guard_at(struct fork_guard *g, const struct fork_guard_ask *ask, const char *play,
	uint64_t played_ms);
/*! \brief A key is over. \retval false too many are waiting to be told: counted */
bool fork_guard_key(struct fork_guard *g, const struct fork_key *key,
	enum fork_key_verdict verdict);
/*! \brief Should the limit be over, note it. \return whether it was, and had not been noted */
bool fork_guard_look(struct fork_guard *g);
/*! \brief The fork has ended. */
void fork_guard_leave(struct fork_guard *g);

/* ---- the channel's side ---- */

/*! \brief The oldest wish. \retval false there is none */
bool fork_guard_take(struct fork_guard *g, struct fork_wish *wish);
/*! \brief Somebody else has set the mode after the wish of this number: its limit is no more. */
void fork_guard_over(struct fork_guard *g, uint64_t number);

/* ---- the service thread ---- */

/*! \brief To the next time that fork_guard_look() has something to say; negative: there is none. */
int64_t fork_guard_next_ms(struct fork_guard *g);
/*! \brief The oldest note, taken; only when the oldest of `digits` says so. */
void fork_guard_note(struct fork_guard *g, struct fork_guard_note *note);

#endif /* FORK_GUARD_H */
