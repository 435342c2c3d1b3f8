/*
 * asterisk-dialog: the prompts of a fork.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief The set of prompts, and what is told of them.
 *
 * fork_fill.c has what the server does with them, fork_player.c what is done with them in the call.
 */

#include "fork_prompt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The server is read again when so much of the buffer is in use, in percent. */
#define READ_AGAIN 75

const char *fork_play_how_name(enum fork_play_how how)
{
	static const char *const names[] = {
		[FORK_PLAY_END] = "end", [FORK_PLAY_CLEAR] = "clear", [FORK_PLAY_DIGIT] = "digit",
		[FORK_PLAY_TIMEOUT] = "timeout", [FORK_PLAY_HANGUP] = "hangup", [FORK_PLAY_LOST] = "lost",
	};

	return names[how];
}

struct fork_play *fork_play_new(unsigned int buffer_ms)
{
	struct fork_play *play = calloc(1, sizeof(*play));

	if (play) {
		play->buffer_ms = buffer_ms;
		pthread_mutex_init(&play->lock, NULL);
	}
	return play;
}

void fork_play_set_guard(struct fork_play *play, struct fork_guard *guard)
{
	play->guard = guard;
}

static void free_blocks(struct fork_block *block)
{
	while (block) {
		struct fork_block *next = block->next;

		free(block);
		block = next;
	}
}

/*! \return how many */
static unsigned int free_marks(struct fork_mark *mark)
{
	unsigned int count = 0;

	while (mark) {
		struct fork_mark *next = mark->next;

		free(mark);
		mark = next;
		count++;
	}
	return count;
}

void fork_play_free(struct fork_play *play)
{
	if (!play) {
		return;
	}
	for (size_t i = 0; i < FORK_PLAYS_MAX; i++) {
		free_blocks(play->prompts[i].first);
		free_marks(play->prompts[i].marks);
		free_marks(play->prompts[i].reached);
	}
	free_blocks(play->spare);
	free_marks(play->unreached);
	pthread_mutex_destroy(&play->lock);
	free(play);
}

/* ---- the set; the lock is held ---- */

struct fork_prompt *fork_play_find(struct fork_play *play, const char *id)
{
	for (size_t i = 0; i < FORK_PLAYS_MAX; i++) {
		if (play->prompts[i].used && id[0] && !strcmp(play->prompts[i].id, id)) {
			return &play->prompts[i];
		}
	}
	return NULL;
}

struct fork_prompt *fork_play_slot(struct fork_play *play)
{
	for (size_t i = 0; i < FORK_PLAYS_MAX; i++) {
		struct fork_prompt *p = &play->prompts[i];

		if (!p->used) {
			memset(p, 0, sizeof(*p));
			p->used = true;
			p->eventfd = -1;
			p->guard = play->guard;
			return p;
		}
	}
	return NULL;
}

void fork_play_wake(struct fork_prompt *p)
{
	const uint64_t one = 1;

	if (p->idle && p->eventfd >= 0) {
		/* It counts; a full counter has woken the player already. */
		ssize_t written = write(p->eventfd, &one, sizeof(one));

		(void) written;
	}
	p->idle = false;
}

void fork_play_finish(struct fork_play *play, struct fork_prompt *p, enum fork_play_how how)
{
	if (p->over) {
		return;
	}
	fork_prompt_finish(p, how, &play->spare, &play->unreached);
	play->whispers -= p->whisper;
	p->tell_played = p->id[0];
	if (play->target == p) {
		play->target = NULL;
		play->target_over = true;
	}
	/* A player in the midst of a frame must hear of it too, before the next one. */
	p->idle = p->attached;
	fork_play_wake(p);
	play->calls = true;
}

void fork_play_release(struct fork_prompt *p)
{
	bool told = !p->tell_started && !p->tell_wrong_rate && !p->tell_played && !p->reached;

	if (p->over && told) {
		p->id[0] = '\0';
		p->used = p->attached;
	}
}

uint64_t fork_play_waiting_us(const struct fork_play *play)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < FORK_PLAYS_MAX; i++) {
		const struct fork_prompt *p = &play->prompts[i];

		if (p->used && p->rate_hz) {
			sum += fork_prompt_waiting(p) * 1000000 / p->rate_hz;
		}
	}
	return sum;
}

bool fork_play_is_cleared(const struct fork_play *play, const char *id)
{
	for (size_t i = 0; i < FORK_CLEARED_MAX; i++) {
		if (id[0] && !strcmp(play->cleared[i], id)) {
			return true;
		}
	}
	return false;
}

bool fork_play_forget_cleared(struct fork_play *play, const char *id)
{
	for (size_t i = 0; i < FORK_CLEARED_MAX; i++) {
		if (id[0] && !strcmp(play->cleared[i], id)) {
			play->cleared[i][0] = '\0';
			return true;
		}
	}
	return false;
}

bool fork_play_full(struct fork_play *play)
{
	bool full;

	pthread_mutex_lock(&play->lock);
	full = fork_play_waiting_us(play) >= (uint64_t) play->buffer_ms * 1000;
	play->held = play->held || full;
	pthread_mutex_unlock(&play->lock);
	return full;
}

bool fork_play_room_again(const struct fork_play *play)
{
	return play->held
		&& fork_play_waiting_us(play) <= (uint64_t) play->buffer_ms * 10 * READ_AGAIN;
}

bool fork_play_has_room(struct fork_play *play)
{
	bool again;

	pthread_mutex_lock(&play->lock);
	again = fork_play_room_again(play);
	play->held = play->held && !again;
	pthread_mutex_unlock(&play->lock);
	return again;
}

void fork_play_shut(struct fork_play *play)
{
	pthread_mutex_lock(&play->lock);
	play->shut = true;
	for (size_t i = 0; i < FORK_PLAYS_MAX; i++) {
		if (play->prompts[i].used) {
			fork_play_finish(play, &play->prompts[i], FORK_PLAY_LOST);
		}
	}
	pthread_mutex_unlock(&play->lock);
}

bool fork_play_calls(struct fork_play *play)
{
	return play->calls;
}

uint64_t fork_play_total_ms(struct fork_play *play)
{
	return play->total_us / 1000;
}

/* ---- news ---- */

static bool take_mark(struct fork_play *play, struct fork_prompt *p, struct fork_play_news *news)
{
	bool found = false;
	struct fork_mark *mark;

	while (!found && (mark = p->reached)) {
		/* Guards are told by themselves. */
		found = !mark->guards;
		news->what = FORK_NEWS_MARK;
		snprintf(news->name, sizeof(news->name), "%s", mark->ask.name);
		news->played_ms = fork_prompt_ms(p, mark->played);
		p->reached = mark->next;
		free(mark);
		play->marks--;
	}
	return found;
}

static bool take_flag(bool *flag, struct fork_play_news *news, int what)
{
	if (*flag) {
		*flag = false;
		news->what = what;
		return true;
	}
	return false;
}

/*! \brief The next news of one prompt, in the order in which things happen. */
static bool prompt_news(struct fork_play *play, struct fork_prompt *p, struct fork_play_news *news)
{
	*news = (struct fork_play_news) {
		.how = p->how,
		.played_ms = fork_prompt_ms(p, p->played),
		.buffered_ms = fork_prompt_ms(p, fork_prompt_waiting(p)),
		.gap_ms = p->gap_us / 1000,
		.skipped_ms = fork_prompt_ms(p, p->skipped),
	};
	snprintf(news->play, sizeof(news->play), "%s", p->id);
	p->tell_buffer = p->tell_buffer && !p->over;
	return take_flag(&p->tell_started, news, FORK_NEWS_STARTED) || take_mark(play, p, news)
		|| take_flag(&p->tell_buffer, news, FORK_NEWS_BUFFER)
		|| take_flag(&p->tell_wrong_rate, news, FORK_NEWS_WRONG_RATE)
		|| take_flag(&p->tell_played, news, FORK_NEWS_PLAYED);
}

/*! \brief All has been told. */
static void tidy(struct fork_play *play)
{
	bool open = false;

	play->marks -= free_marks(play->unreached);
	play->unreached = NULL;
	for (size_t i = 0; i < FORK_PLAYS_MAX; i++) {
		open = open || play->prompts[i].used;
	}
	if (!open) {
		free_blocks(play->spare);
		play->spare = NULL;
	}
	play->calls = false;
}

bool fork_play_news(struct fork_play *play, struct fork_play_news *news)
{
	bool found = false;

	pthread_mutex_lock(&play->lock);
	for (size_t i = 0; i < FORK_PLAYS_MAX && !found; i++) {
		struct fork_prompt *p = &play->prompts[i];

		found = p->used && prompt_news(play, p, news);
		fork_play_release(p);
	}
	if (!found) {
		tidy(play);
	}
	pthread_mutex_unlock(&play->lock);
	return found;
}
