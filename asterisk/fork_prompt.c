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

/*! \brief What playback does at once: a frame, or what is skipped; or nothing. */
struct step {
	uint64_t taken, played;   /*!< the counts when it began */
	uint64_t half;            /*!< half of the samples that are handed out, 0: none are */
};

/*!
 * \brief Whether it is reached.
 *
 * A mark tells of samples that were handed out. Those are heard for so long from now on: a guard
 * comes in force at their beginning or their end, whichever its place is nearer to.
 */
static bool reached(const struct fork_mark *mark, const struct step *step)
{
	return !mark->guards || !step->half || mark->at < step->taken + step->half;
}

/*! \brief How much was played when playback was there; of a guard: when it comes in force. */
static uint64_t played_at(const struct fork_mark *mark, const struct step *step)
{
	bool within = step->half && !mark->guards && mark->at > step->taken;

	return step->played + (within ? mark->at - step->taken : 0);
}

/*! \brief Marks that playback has come to. */
static void reach_marks(struct fork_prompt *p, const struct step *step)
{
	struct fork_mark **last = &p->reached, **from = &p->marks, *mark;

	while (*last) {
		last = &(*last)->next;
	}
	while (p->started && (mark = *from) && mark->at <= p->taken) {
		if (!reached(mark, step)) {
			from = &mark->next;
			continue;
		}
		mark->played = played_at(mark, step);
		if (mark->guards && p->guard) {
			fork_guard_at(p->guard, &mark->ask, p->id, fork_prompt_ms(p, mark->played));
		}
		*from = mark->next;
		mark->next = NULL;
		*last = mark;
		last = &mark->next;
	}
}

void fork_prompt_rest(struct fork_prompt *p)
{
	reach_marks(p, &(struct step) { .taken = p->taken, .played = p->played });
}

void fork_prompt_take(struct fork_prompt *p, int16_t *samples, size_t count,
	enum fork_prompt_use use, struct fork_block **spare)
{
	const struct step step = { .taken = p->taken, .played = p->played,
		.half = use == FORK_USE_SKIP ? 0 : (count + 1) / 2 };
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
	reach_marks(p, &step);
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
	fork_prompt_rest(p);
}

void fork_prompt_start(struct fork_prompt *p)
{
	if (!p->started) {
		p->started = p->tell_started = true;
		fork_prompt_rest(p);
	}
}

void fork_prompt_finish(struct fork_prompt *p, enum fork_play_how how, struct fork_block **spare,
	struct fork_mark **unreached)
{
	if (how == FORK_PLAY_END) {
		/* One without any audio has no start, but its marks are reached. */
		p->started = true;
	}
	fork_prompt_rest(p);
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
