/*
 * asterisk-dialog: who plays prompts.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief Prompts attached to, taken, mixed, let go of: on the channel's thread.
 */

#include "fork_prompt.h"

#include <stdio.h>

/*! \brief The oldest prompt that a player may have, or the oldest whisper. The lock is held. */
static struct fork_prompt *oldest(struct fork_play *play, bool whisper)
{
	struct fork_prompt *found = NULL;

	for (size_t i = 0; i < FORK_PLAYS_MAX; i++) {
		struct fork_prompt *p = &play->prompts[i];

		if (p->used && p->rate_hz && !p->over && !p->attached && p->whisper == whisper
			&& (!found || p->number < found->number)) {
			found = p;
		}
	}
	return found;
}

enum fork_attach fork_play_attach(struct fork_play *play, const char *id, int eventfd,
	struct fork_prompt **prompt, enum fork_play_how *how)
{
	enum fork_attach result = FORK_ATTACHED;
	struct fork_prompt *p;

	pthread_mutex_lock(&play->lock);
	p = id[0] ? fork_play_find(play, id) : oldest(play, false);
	*how = p && p->over ? p->how : FORK_PLAY_CLEAR;
	if (p && (p->attached || p->whisper)) {
		result = FORK_ATTACH_BUSY;
	} else if (fork_play_forget_cleared(play, id) || (p && p->over)) {
		result = FORK_ATTACH_OVER;
	} else if (!p && play->shut) {
		result = FORK_ATTACH_OVER;
		*how = FORK_PLAY_LOST;
	} else if (!p && !(p = fork_play_slot(play))) {
		result = FORK_ATTACH_BUSY;
	} else {
		if (id[0]) {
			snprintf(p->id, sizeof(p->id), "%s", id);
		}
		p->attached = true;
		p->eventfd = eventfd;
		*prompt = p;
	}
	pthread_mutex_unlock(&play->lock);
	return result;
}

uint32_t fork_play_rate(struct fork_play *play, const struct fork_prompt *prompt)
{
	uint32_t rate_hz;

	pthread_mutex_lock(&play->lock);
	rate_hz = prompt->rate_hz;
	pthread_mutex_unlock(&play->lock);
	return rate_hz;
}

/*! \brief Counters and news of samples that are about to be played. */
static void note_played(struct fork_play *play, struct fork_prompt *p, size_t count,
	uint64_t now_us)
{
	uint64_t step = (uint64_t) p->rate_hz * FORK_PLAY_REPORT_MS / 1000;

	if (p->gap_since_us) {
		p->gap_us += now_us - p->gap_since_us;
		p->gap_since_us = 0;
		p->tell_buffer = true;
	}
	if (p->played / step != (p->played + count) / step) {
		p->tell_buffer = true;
	}
	play->total_us += (uint64_t) count * 1000000 / p->rate_hz;
}

/*! \brief fork_play_take(), the lock held. */
static enum fork_take take(struct fork_play *play, struct fork_prompt *p, int16_t *samples,
	size_t *count, enum fork_prompt_use use, uint64_t now_us)
{
	uint64_t waiting;

	if (p->over) {
		return FORK_TAKE_OVER;
	}
	if (p->paused) {
		fork_prompt_rest(p);
		p->gap_since_us = 0;
		p->idle = true;
		return FORK_TAKE_PAUSED;
	}
	fork_prompt_skip_stale(p, &play->spare);
	waiting = fork_prompt_waiting(p);
	if (!*count || (waiting < *count && !p->ended && !p->lost)) {
		fork_prompt_rest(p);
		p->gap_since_us = p->started && !p->gap_since_us ? now_us : p->gap_since_us;
		p->idle = true;
		return FORK_TAKE_WAIT;
	}
	if (!waiting) {
		fork_play_finish(play, p, p->ended ? FORK_PLAY_END : FORK_PLAY_LOST);
		return FORK_TAKE_OVER;
	}
	*count = waiting < *count ? waiting : *count;
	fork_prompt_start(p);
	note_played(play, p, *count, now_us);
	fork_prompt_take(p, samples, *count, use, &play->spare);
	return FORK_TAKE_AUDIO;
}

/*! \brief Whether there is something for the service thread to do. The lock is held. */
static void call_service(struct fork_play *play, const struct fork_prompt *p)
{
	if (p->tell_started || p->tell_buffer || p->reached || fork_play_room_again(play)) {
		play->calls = true;
	}
}

enum fork_take fork_play_take(struct fork_play *play, struct fork_prompt *prompt, int16_t *samples,
	size_t *count, uint64_t now_us)
{
	enum fork_take result;

	pthread_mutex_lock(&play->lock);
	result = take(play, prompt, samples, count, FORK_USE_COPY, now_us);
	call_service(play, prompt);
	pthread_mutex_unlock(&play->lock);
	return result;
}

enum fork_play_how fork_play_detach(struct fork_play *play, struct fork_prompt *prompt,
	enum fork_play_how how, uint64_t *played_ms)
{
	pthread_mutex_lock(&play->lock);
	prompt->attached = false;
	prompt->eventfd = -1;
	fork_play_finish(play, prompt, how);
	how = prompt->how;
	*played_ms = fork_prompt_ms(prompt, prompt->played);
	fork_play_release(prompt);
	pthread_mutex_unlock(&play->lock);
	return how;
}

bool fork_play_whispers(struct fork_play *play)
{
	return atomic_load_explicit(&play->whispers, memory_order_relaxed);
}

bool fork_play_whisper(struct fork_play *play, int16_t *samples, size_t count, uint32_t rate_hz,
	uint64_t now_us)
{
	bool changed = false;
	struct fork_prompt *p;

	pthread_mutex_lock(&play->lock);
	while (!changed && (p = oldest(play, true))) {
		if (p->rate_hz != rate_hz) {
			p->tell_wrong_rate = true;
			fork_play_finish(play, p, FORK_PLAY_LOST);
			continue;
		}
		changed = take(play, p, samples, &count, FORK_USE_MIX, now_us) == FORK_TAKE_AUDIO;
		call_service(play, p);
		if (!changed && !p->over) {
			break;
		}
	}
	pthread_mutex_unlock(&play->lock);
	return changed;
}
