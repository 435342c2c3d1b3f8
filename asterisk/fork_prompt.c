/*
 * asterisk-dialog: one prompt.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief The audio of a prompt and the marks in it: no allocation, no lock but the guard's.
 */

#include "fork_prompt.h"

#include <string.h>

void fork_prompt_grow(struct fork_prompt *p, struct fork_block *block)
{
	block->next = NULL;
	*(p->last ? &p->last->next : &p->first) = block;
	p->last = block;
	p->tail = 0;
}

/*! \brief The first block is empty. */
static void drop_block(struct fork_prompt *p, struct fork_block **spare)
{
	struct fork_block *block = p->first;

	p->first = block->next;
	p->head = 0;
	if (!p->first) {
		p->last = NULL;
		p->tail = 0;
	}
	block->next = *spare;
	*spare = block;
}

static void mix(int16_t *to, const int16_t *samples, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int sum = to[i] + samples[i];

		to[i] = (int16_t) (sum > 32767 ? 32767 : sum < -32768 ? -32768 : sum);
	}
}

/*! \brief Marks that playback has come to, by a step that began at these counts. */
static void reach_marks(struct fork_prompt *p, uint64_t taken, uint64_t played)
{
	struct fork_mark **last = &p->reached, *mark;

	while (*last) {
		last = &(*last)->next;
	}
	while (p->started && (mark = p->marks) && mark->at <= p->taken) {
		mark->played = played;
		if (p->played > played && mark->at > taken) {
			mark->played += mark->at - taken;
		}
		if (mark->guards && p->guard) {
			fork_guard_at(p->guard, &mark->ask, p->id, fork_prompt_ms(p, mark->played));
		}
		p->marks = mark->next;
		mark->next = NULL;
		*last = mark;
		last = &mark->next;
	}
}

void fork_prompt_take(struct fork_prompt *p, int16_t *samples, size_t count,
	enum fork_prompt_use use, struct fork_block **spare)
{
	uint64_t taken = p->taken, played = p->played;
	size_t left = count;

	while (left) {
		size_t end = p->first == p->last ? p->tail : FORK_BLOCK_SAMPLES;
		size_t part = end - p->head < left ? end - p->head : left;

		if (use == FORK_USE_COPY) {
			memcpy(samples, p->first->samples + p->head, part * sizeof(*samples));
		} else if (use == FORK_USE_MIX) {
			mix(samples, p->first->samples + p->head, part);
		}
		samples += use == FORK_USE_SKIP ? 0 : part;
		p->head += part;
		left -= part;
		if (p->head == end) {
			drop_block(p, spare);
		}
	}
	p->taken += count;
	*(use == FORK_USE_SKIP ? &p->skipped : &p->played) += count;
	reach_marks(p, taken, played);
}

void fork_prompt_skip_stale(struct fork_prompt *p, struct fork_block **spare)
{
	uint64_t waiting = fork_prompt_waiting(p);

	if (p->live && waiting > p->live) {
		fork_prompt_take(p, NULL, waiting - p->live, FORK_USE_SKIP, spare);
	}
}

void fork_prompt_add_mark(struct fork_prompt *p, struct fork_mark *mark)
{
	struct fork_mark **at = &p->marks;

	while (*at && (*at)->at <= mark->at) {
		at = &(*at)->next;
	}
	mark->next = *at;
	*at = mark;
	reach_marks(p, p->taken, p->played);
}

void fork_prompt_start(struct fork_prompt *p)
{
	if (!p->started) {
		p->started = p->tell_started = true;
		reach_marks(p, p->taken, p->played);
	}
}

void fork_prompt_finish(struct fork_prompt *p, enum fork_play_how how, struct fork_block **spare,
	struct fork_mark **unreached)
{
	if (how == FORK_PLAY_END) {
		/* One without any audio has no start, but its marks are reached. */
		p->started = true;
		reach_marks(p, p->taken, p->played);
	}
	while (p->first) {
		drop_block(p, spare);
	}
	while (*unreached) {
		unreached = &(*unreached)->next;
	}
	*unreached = p->marks;
	p->marks = NULL;
	p->written = p->taken;
	p->over = p->tell_played = true;
	p->how = how;
}
