/*
 * asterisk-dialog: one prompt: its audio, its marks, its counters.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief Private to fork_play.c, fork_fill.c and fork_player.c, which hold the lock around all of it.
 *
 * Invariants of a prompt
 * - `taken` = `played` + `skipped`; `written` - `taken` samples wait in its blocks.
 * - Each mark is on one list: `marks`, sorted by place, until playback has started and reached it;
 *   then `reached`, in that order, until it is told. One that is a guard's goes to the keys the
 *   moment that it is reached, and is told from there: up to half a frame before its place, or
 *   behind it.
 * - `over` is final: no sample waits, no mark, and no counter changes any more.
 */

#ifndef FORK_PROMPT_H
#define FORK_PROMPT_H

#include <pthread.h>
#include <stdatomic.h>

#include "fork_guard.h"
#include "fork_play.h"

#define FORK_BLOCK_SAMPLES 1020

struct fork_block {
	struct fork_block *next;
	int16_t samples[FORK_BLOCK_SAMPLES];
};

struct fork_mark {
	struct fork_mark *next;
	uint64_t at;              /*!< samples before it */
	uint64_t played;          /*!< once reached: of these, how many were played */
	bool guards;              /*!< a guard comes in force here */
	struct fork_guard_ask ask; /*!< its name is the mark's, too */
};

struct fork_prompt {
	bool used;
	char id[FORK_ID_MAX];     /*!< empty: a player waits for any */
	uint64_t number;          /*!< order of `play` */
	uint32_t rate_hz;         /*!< 0: `play` has not come, a player waits for it */
	bool whisper;
	bool ended;               /*!< no more audio will come: `end`, */
	bool lost;                /*!< or the connection was lost */
	bool paused;
	bool attached;            /*!< a player holds it */
	bool idle;                /*!< the player sleeps until something happens */
	int eventfd;
	bool over;
	enum fork_play_how how;

	struct fork_block *first, *last;
	size_t head, tail;        /*!< next sample to be taken in `first`, to be written in `last` */
	uint64_t written, taken, played, skipped;
	uint64_t live;            /*!< samples that may wait, 0: all */
	uint64_t gap_us;
	uint64_t gap_since_us;    /*!< 0: no gap at present */

	struct fork_guard *guard; /*!< where guards go to; NULL: there are none */
	struct fork_mark *marks, *reached;
	bool started;
	bool tell_started, tell_buffer, tell_wrong_rate, tell_played;
};

/*! \brief What fork_prompt_take() does with the samples. */
enum fork_prompt_use {
	FORK_USE_COPY,
	FORK_USE_MIX,
	FORK_USE_SKIP,
};

static inline uint64_t fork_prompt_waiting(const struct fork_prompt *p)
{
	return p->written - p->taken;
}

static inline uint64_t fork_prompt_ms(const struct fork_prompt *p, uint64_t samples)
{
	return p->rate_hz ? samples * 1000 / p->rate_hz : 0;
}

/*! \brief Append one sample. \retval false a block is missing: fork_prompt_grow() */
static inline bool fork_prompt_put(struct fork_prompt *p, int16_t sample)
{
	if (!p->last || p->tail == FORK_BLOCK_SAMPLES) {
		return false;
	}
	p->last->samples[p->tail++] = sample;
	p->written++;
	return true;
}

void fork_prompt_grow(struct fork_prompt *p, struct fork_block *block);
/*!
 * \brief Take so many samples, which must be there, and reach the marks up to there.
 * \param spare list that empty blocks go to
 */
void fork_prompt_take(struct fork_prompt *p, int16_t *samples, size_t count,
	enum fork_prompt_use use, struct fork_block **spare);
/*! \brief What was handed out has been played, and no more is handed out at present. */
void fork_prompt_rest(struct fork_prompt *p);
/*! \brief Leave out what waits longer than the prompt allows. */
void fork_prompt_skip_stale(struct fork_prompt *p, struct fork_block **spare);
void fork_prompt_add_mark(struct fork_prompt *p, struct fork_mark *mark);
/*! \brief Playback begins. */
void fork_prompt_start(struct fork_prompt *p);
/*!
 * \brief The prompt is over; what it holds is thrown away.
 * \param unreached list that marks go to which are not told any more
 */
void fork_prompt_finish(struct fork_prompt *p, enum fork_play_how how, struct fork_block **spare,
	struct fork_mark **unreached);

/* ---- the prompts of a fork ---- */

struct fork_play {
	unsigned int buffer_ms;
	struct fork_guard *guard; /*!< of all prompts */
	_Atomic int whispers;     /*!< open ones */
	_Atomic bool calls;       /*!< the service thread has something to do */
	_Atomic uint64_t total_us;

	pthread_mutex_t lock;     /*!< guards all that follows */
	struct fork_prompt prompts[FORK_PLAYS_MAX];
	struct fork_prompt *target; /*!< gets the audio; NULL: none is open */
	bool target_over;         /*!< there was one, and audio for it may still come */
	bool odd;                 /*!< half a sample has come: */
	uint8_t odd_byte;
	bool held;                /*!< reading from the server is stopped */
	bool shut;                /*!< no prompt can be opened any more */
	uint64_t numbers;
	struct fork_block *spare;
	unsigned int marks;
	struct fork_mark *unreached; /*!< to be freed by the service thread */
	char cleared[FORK_CLEARED_MAX][FORK_ID_MAX];
	unsigned int next_cleared;
};

/* fork_play.c, the lock is held */
/*! \brief The prompt of this id; NULL: there is none, or it has been told that it is over. */
struct fork_prompt *fork_play_find(struct fork_play *play, const char *id);
/*! \brief A slot for a prompt, all zeros but `used`. NULL: all are in use */
struct fork_prompt *fork_play_slot(struct fork_play *play);
/*! \brief The prompt is over, unless it was before. */
void fork_play_finish(struct fork_play *play, struct fork_prompt *p, enum fork_play_how how);
/*! \brief Let the prompt's player look, should it sleep. */
void fork_play_wake(struct fork_prompt *p);
/*! \brief Give the slot back, if nobody needs the prompt any more. */
void fork_play_release(struct fork_prompt *p);
/*! \brief Whether the id was cleared ahead of its time. */
bool fork_play_is_cleared(const struct fork_play *play, const char *id);
/*! \return whether it was */
bool fork_play_forget_cleared(struct fork_play *play, const char *id);
/*! \brief Audio that waits, of all prompts. */
uint64_t fork_play_waiting_us(const struct fork_play *play);
/*! \brief Whether reading from the server was stopped and may go on. */
bool fork_play_room_again(const struct fork_play *play);

#endif /* FORK_PROMPT_H */
