/*
 * asterisk-dialog: what the server does with prompts.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief Prompts opened, filled, marked, cleared: on the service thread.
 */

#include "fork_prompt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A live prompt keeps a frame at least. */
#define LIVE_MS_MIN 20

/*! \brief One that is cleared again takes no second place. */
static void remember_cleared(struct fork_play *play, const char *id)
{
	if (!fork_play_is_cleared(play, id)) {
		snprintf(play->cleared[play->next_cleared++ % FORK_CLEARED_MAX], FORK_ID_MAX, "%s", id);
	}
}

static void set_ended(struct fork_play *play, struct fork_prompt *p)
{
	if (p && !p->over) {
		p->ended = true;
		fork_play_wake(p);
		if (play->target == p) {
			play->target = NULL;
			play->target_over = false;
		}
	}
}

/*! \brief A player that waits for whatever comes next. */
static struct fork_prompt *find_waiter(struct fork_play *play)
{
	for (size_t i = 0; i < FORK_PLAYS_MAX; i++) {
		struct fork_prompt *p = &play->prompts[i];

		if (p->used && !p->over && !p->rate_hz && !p->id[0]) {
			return p;
		}
	}
	return NULL;
}

const char *fork_play_open(struct fork_play *play, const char *id, uint32_t rate_hz, bool whisper,
	uint32_t live_ms)
{
	const char *why = NULL;
	struct fork_prompt *p;

	pthread_mutex_lock(&play->lock);
	p = fork_play_find(play, id);
	fork_play_forget_cleared(play, id);
	if (play->shut) {
		why = "the fork is being stopped";
	} else if (p && (p->rate_hz || p->over)) {
		why = "a prompt of this id is open";
	} else if (p && whisper) {
		why = "AudioForkPlay waits for this prompt: it cannot be a whisper";
	} else if (!p && (whisper || !(p = find_waiter(play))) && !(p = fork_play_slot(play))) {
		why = "too many prompts are open";
	} else {
		set_ended(play, play->target);
		snprintf(p->id, sizeof(p->id), "%s", id);
		p->number = ++play->numbers;
		p->rate_hz = rate_hz;
		p->whisper = whisper;
		p->live = live_ms ? (uint64_t) (live_ms < LIVE_MS_MIN ? LIVE_MS_MIN : live_ms) * rate_hz
			/ 1000 : 0;
		play->whispers += whisper;
		play->target = p;
		play->odd = false;
		fork_play_wake(p);
	}
	pthread_mutex_unlock(&play->lock);
	return why;
}

/*! \brief Have blocks for so many samples. Only fork_play_write() takes any. */
static bool reserve(struct fork_play *play, size_t samples)
{
	size_t missing = samples / FORK_BLOCK_SAMPLES + 2;

	pthread_mutex_lock(&play->lock);
	for (struct fork_block *b = play->spare; b && missing; b = b->next) {
		missing--;
	}
	pthread_mutex_unlock(&play->lock);
	for (; missing; missing--) {
		struct fork_block *block = malloc(sizeof(*block));

		if (!block) {
			return false;
		}
		pthread_mutex_lock(&play->lock);
		block->next = play->spare;
		play->spare = block;
		pthread_mutex_unlock(&play->lock);
	}
	return true;
}

static void put_bytes(struct fork_play *play, struct fork_prompt *p, const uint8_t *bytes,
	size_t length)
{
	for (size_t i = 0; i < length; i++) {
		int16_t sample = (int16_t) (uint16_t) (play->odd_byte | bytes[i] << 8);

		if (!play->odd) {
			play->odd_byte = bytes[i];
		} else if (!fork_prompt_put(p, sample)) {
			struct fork_block *block = play->spare;

			play->spare = block->next;
			fork_prompt_grow(p, block);
			fork_prompt_put(p, sample);
		}
		play->odd = !play->odd;
	}
}

const char *fork_play_write(struct fork_play *play, const void *bytes, size_t length, bool final)
{
	const char *why = NULL;

	if (!reserve(play, length / 2 + 1)) {
		return "out of memory";
	}
	pthread_mutex_lock(&play->lock);
	if (play->target && fork_play_waiting_us(play) > (2ULL * play->buffer_ms + 1000) * 1000) {
		why = "more than the buffer holds"; /* whoever heeds fork_play_full() never comes here */
	} else if (play->target) {
		put_bytes(play, play->target, bytes, length);
		fork_prompt_skip_stale(play->target, &play->spare);
		play->calls = play->calls || play->target->reached;
		fork_play_wake(play->target);
	} else if (!play->target_over && final) {
		why = "no prompt is open";
	}
	if (final) {
		why = play->target && play->odd ? "an odd number of bytes" : why;
		play->odd = false;
	}
	pthread_mutex_unlock(&play->lock);
	return why;
}

void fork_play_end(struct fork_play *play, const char *id)
{
	pthread_mutex_lock(&play->lock);
	set_ended(play, fork_play_find(play, id));
	pthread_mutex_unlock(&play->lock);
}

/*! \param guards what `ask` wants comes in force there; else only its name counts */
static const char *add_mark(struct fork_play *play, const char *id, const struct fork_guard_ask *ask,
	bool guards, int64_t at_ms)
{
	struct fork_mark *mark = malloc(sizeof(*mark));
	const char *why = NULL;
	struct fork_prompt *p;

	pthread_mutex_lock(&play->lock);
	p = fork_play_find(play, id);
	if (!mark) {
		why = "out of memory";
	} else if (p && p->rate_hz && !p->over) {
		if (play->marks < FORK_MARKS_MAX) {
			play->marks++;
			mark->at = at_ms < 0 ? p->written : (uint64_t) at_ms * p->rate_hz / 1000;
			mark->ask = *ask;
			mark->guards = guards;
			fork_prompt_add_mark(p, mark);
			play->calls = play->calls || p->reached;
			mark = NULL;
		} else {
			why = "too many marks";
		}
	}
	pthread_mutex_unlock(&play->lock);
	free(mark);
	return why;
}

const char *fork_play_mark(struct fork_play *play, const char *id, const char *name, int64_t at_ms)
{
	struct fork_guard_ask ask = { .limit_ms = 0 };

	snprintf(ask.name, sizeof(ask.name), "%s", name);
	return add_mark(play, id, &ask, false, at_ms);
}

const char *fork_play_guard(struct fork_play *play, const char *id, const struct fork_guard_ask *ask,
	int64_t at_ms)
{
	return play->guard ? add_mark(play, id, ask, true, at_ms) : "the channel's keys are not seen";
}

static void clear(struct fork_play *play, struct fork_prompt *p)
{
	if (!p->over && !p->attached && !p->whisper) {
		remember_cleared(play, p->id);
	}
	fork_play_finish(play, p, FORK_PLAY_CLEAR);
}

void fork_play_clear(struct fork_play *play, const char *id)
{
	struct fork_prompt *p;

	pthread_mutex_lock(&play->lock);
	if (!id[0]) {
		for (size_t i = 0; i < FORK_PLAYS_MAX; i++) {
			if (play->prompts[i].used) {
				clear(play, &play->prompts[i]);
			}
		}
	} else if ((p = fork_play_find(play, id))) {
		clear(play, p);
	} else {
		remember_cleared(play, id);
	}
	pthread_mutex_unlock(&play->lock);
}

void fork_play_pause(struct fork_play *play, const char *id, bool on)
{
	struct fork_prompt *p;

	pthread_mutex_lock(&play->lock);
	if ((p = fork_play_find(play, id))) {
		p->paused = on;
		fork_play_wake(p);
	}
	pthread_mutex_unlock(&play->lock);
}

void fork_play_lost(struct fork_play *play, bool for_good)
{
	pthread_mutex_lock(&play->lock);
	play->target = NULL;
	play->target_over = play->odd = play->held = false;
	play->shut = play->shut || for_good;
	for (size_t i = 0; i < FORK_PLAYS_MAX; i++) {
		struct fork_prompt *p = &play->prompts[i];

		if (!p->used || p->over) {
			continue;
		}
		p->lost = p->rate_hz && !p->ended;
		p->paused = false; /* whoever would have resumed it is gone: nobody waits in it for ever */
		if (p->rate_hz ? p->lost && !fork_prompt_waiting(p) : for_good) {
			fork_play_finish(play, p, FORK_PLAY_LOST);
		}
		fork_play_wake(p);
	}
	pthread_mutex_unlock(&play->lock);
}
