/*
 * asterisk-dialog: audio from the server, on its way into the call.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief Prompts: filled by the service thread, emptied by the thread that plays them.
 *
 * A prompt lives from `play`, or from the moment AudioForkPlay waits for it, until it is over, its
 * player has let go of it and its end has been told. A `clear` that comes before the AudioForkPlay
 * of the same id is remembered, the last FORK_CLEARED_MAX of them.
 *
 * Threads: the service thread fills and asks for news; one thread at a time plays a prompt; whispers
 * are taken by whoever writes to the channel. The one lock is a leaf, held for a copy of a few
 * kilobytes at most; but for the guard's (fork_guard.h), which may be taken under it. The only system
 * call under it is a write to the player's eventfd, which does
 * not wait; under it, because the player closes that descriptor once it has let go.
 *
 * No clock, no socket, no Asterisk. Memory: blocks of 2 kB, as many as `buffer_ms` of audio need,
 * taken when audio comes and given back when no prompt is open.
 */

#ifndef FORK_PLAY_H
#define FORK_PLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fork_message.h"
#include "fork_wish.h"

#define FORK_PLAYS_MAX 8
/*! Marks and guards of all prompts that playback has not reached, or that have not been told. */
#define FORK_MARKS_MAX 128
#define FORK_CLEARED_MAX 8
#define FORK_PLAY_REPORT_MS 500

enum fork_play_how {
	FORK_PLAY_END,      /*!< all of it was played */
	FORK_PLAY_CLEAR,
	FORK_PLAY_DIGIT,
	FORK_PLAY_TIMEOUT,  /*!< no audio came for too long */
	FORK_PLAY_HANGUP,
	FORK_PLAY_LOST,     /*!< the connection, or the fork, was lost before `end` */
};

/*! \brief Something the server is to be told. */
struct fork_play_news {
	enum {
		FORK_NEWS_STARTED,
		FORK_NEWS_MARK,
		FORK_NEWS_BUFFER,
		FORK_NEWS_WRONG_RATE,      /*!< a whisper of another rate than the channel's */
		FORK_NEWS_PLAYED,
	} what;
	char play[FORK_ID_MAX];
	char name[FORK_ID_MAX];        /*!< the mark's */
	enum fork_play_how how;        /*!< of FORK_NEWS_PLAYED */
	uint64_t played_ms;            /*!< of a mark: when playback was there */
	uint64_t buffered_ms;
	uint64_t gap_ms;
	uint64_t skipped_ms;
};

/*! \brief All prompts of a fork. */
struct fork_play;
struct fork_prompt;
struct fork_guard;

const char *fork_play_how_name(enum fork_play_how how);

/*! \param buffer_ms audio that may wait, of all prompts \return NULL: no memory */
struct fork_play *fork_play_new(unsigned int buffer_ms);
void fork_play_free(struct fork_play *play);
/*! \brief Where the guards of prompts go to; before the first prompt. It must outlive them. */
void fork_play_set_guard(struct fork_play *play, struct fork_guard *guard);

/* ---- the service thread; a text returned says what is wrong, NULL: done ---- */

/*! \brief Open a prompt; the one before it gets no more audio, as after fork_play_end(). */
const char *fork_play_open(struct fork_play *play, const char *id, uint32_t rate_hz, bool whisper,
	uint32_t live_ms);
/*!
 * \brief Audio for the prompt opened last, little-endian; a sample may be cut in two by chunks.
 *
 * What comes for a prompt that is over is passed over.
 * \param final the last chunk of a message
 */
const char *fork_play_write(struct fork_play *play, const void *bytes, size_t length, bool final);
/*! \brief The prompt has no more audio. One that is not there may just be over: no error. */
void fork_play_end(struct fork_play *play, const char *id);
/*! \param at_ms place in the prompt, -1: after the audio written so far */
const char *fork_play_mark(struct fork_play *play, const char *id, const char *name, int64_t at_ms);
/*! \brief As fork_play_mark(); `ask` comes in force there, on the thread that plays. */
const char *fork_play_guard(struct fork_play *play, const char *id, const struct fork_guard_ask *ask,
	int64_t at_ms);
/*! \param id empty: all */
void fork_play_clear(struct fork_play *play, const char *id);
void fork_play_pause(struct fork_play *play, const char *id, bool on);
/*! \brief The connection is lost. \param for_good there will be no other */
void fork_play_lost(struct fork_play *play, bool for_good);

/*! \brief Whether to stop reading from the server; then the player asks for news once there is room. */
bool fork_play_full(struct fork_play *play);
/*! \brief Whether reading was stopped and there is room again; true once. */
bool fork_play_has_room(struct fork_play *play);
/*! \brief Take the next news. \retval false none is left */
bool fork_play_news(struct fork_play *play, struct fork_play_news *news);

/* ---- any thread ---- */

/*! \brief The fork is stopped: all prompts are over at once, and none can be opened. */
void fork_play_shut(struct fork_play *play);
/*! \brief Whether there is something for the service thread to do. */
bool fork_play_calls(struct fork_play *play);
/*! \brief Audio played on this fork, of all prompts. */
uint64_t fork_play_total_ms(struct fork_play *play);

/* ---- the thread that plays a prompt ---- */

enum fork_attach {
	FORK_ATTACHED,
	FORK_ATTACH_OVER,   /*!< it is over already */
	FORK_ATTACH_BUSY,   /*!< somebody plays it, it is a whisper, or too many are open */
};

/*!
 * \brief Begin to play a prompt, or to wait for it.
 *
 * \param id empty: the oldest that nobody plays, or the next to come
 * \param eventfd written to when there is something to do after WAIT or PAUSED, or the prompt is
 *   over; -1: none
 * \param how set with FORK_ATTACH_OVER
 */
enum fork_attach fork_play_attach(struct fork_play *play, const char *id, int eventfd,
	struct fork_prompt **prompt, enum fork_play_how *how);
/*! \brief The prompt's rate, 0: not known before `play` has come. */
uint32_t fork_play_rate(struct fork_play *play, const struct fork_prompt *prompt);

enum fork_take {
	FORK_TAKE_AUDIO,
	FORK_TAKE_WAIT,     /*!< not enough has come */
	FORK_TAKE_PAUSED,
	FORK_TAKE_OVER,
};

/*!
 * \brief The next samples: `count` of them, or fewer at the very end.
 *
 * \param count wanted, then taken. 0: the rate is not known yet; WAIT, and look at it again before
 *   sleeping, for it may have come meanwhile
 * \param now_us any monotonic clock, to measure gaps
 */
enum fork_take fork_play_take(struct fork_play *play, struct fork_prompt *prompt, int16_t *samples,
	size_t *count, uint64_t now_us);
/*!
 * \brief Let go of the prompt. What it still holds is thrown away.
 * \param how it ended, unless it was over before
 * \param played_ms what of it was played
 * \return how it ended
 */
enum fork_play_how fork_play_detach(struct fork_play *play, struct fork_prompt *prompt,
	enum fork_play_how how, uint64_t *played_ms);

/* ---- the thread that writes to the channel ---- */

/*! \brief Whether a whisper is open. Costs one load. */
bool fork_play_whispers(struct fork_play *play);
/*!
 * \brief Mix the oldest whisper into these samples, saturating.
 * \return whether any of them was changed
 */
bool fork_play_whisper(struct fork_play *play, int16_t *samples, size_t count, uint32_t rate_hz,
	uint64_t now_us);

#endif /* FORK_PLAY_H */
