/*
 * asterisk-dialog: a hammer for prompts.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief A server, a player and a whisperer at once: each sample once and in order, each end told.
 *
 * play_hammer PROMPTS: the server sends as many prompts, each of 1 to 4000 samples that count from
 * 1 on, every third with a whisper before it, every fifth cleared in the midst, and reads the news.
 * Prints what it has seen; exits 1 at the first lie.
 */

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "fork_guard.h"
#include "fork_play.h"

#define SLOT 160

static struct fork_play *play;
static struct fork_guard guard;
static _Atomic uint64_t cells;
static _Atomic bool done;
static _Atomic unsigned int lies;
static unsigned int prompts, over, cleared, wishes;
static uint64_t last_wish; /* the player's thread */

static uint64_t now_ms(void)
{
	return 1;
}

static void nap(void)
{
	usleep(50);
}

static void *play_all(void *unused)
{
	int wake = eventfd(0, EFD_NONBLOCK);

	(void) unused;
	for (unsigned int n = 1; n <= prompts; n++) {
		struct pollfd sleeper = { .fd = wake, .events = POLLIN };
		struct fork_prompt *prompt = NULL;
		enum fork_play_how how;
		int16_t room[SLOT], wanted = 1;
		enum fork_attach attached;
		enum fork_take taken;
		struct fork_wish wish;
		char id[16];
		uint64_t ms;

		snprintf(id, sizeof(id), "p%u", n);
		while ((attached = fork_play_attach(play, id, wake, &prompt, &how)) == FORK_ATTACH_BUSY) {
			nap(); /* ends that have not been told fill all places: nothing takes time here */
		}
		if (attached == FORK_ATTACH_OVER) {
			cleared++;
			continue;
		}
		do {
			size_t count = fork_play_rate(play, prompt) ? SLOT : 0;

			taken = fork_play_take(play, prompt, room, &count, 1);
			while (fork_guard_take(&guard, &wish)) {
				lies += wish.number <= last_wish;
				last_wish = wish.number;
				wishes++;
			}
			for (size_t i = 0; taken == FORK_TAKE_AUDIO && i < count; i++) {
				lies += room[i] != wanted++;
			}
			/* Without a rate `play` may have come between the two looks. */
			if (taken == FORK_TAKE_WAIT && (count || !fork_play_rate(play, prompt))) {
				lies += poll(&sleeper, 1, 5000) != 1 || read(wake, &ms, sizeof(ms)) < 0;
			}
		} while (taken != FORK_TAKE_OVER);
		how = fork_play_detach(play, prompt, FORK_PLAY_TIMEOUT, &ms);
		lies += how != FORK_PLAY_END && how != FORK_PLAY_CLEAR;
		cleared += how == FORK_PLAY_CLEAR;
	}
	close(wake);
	return NULL;
}

static void *whisper_all(void *unused)
{
	int16_t room[SLOT];

	(void) unused;
	while (!done) {
		memset(room, 0, sizeof(room));
		if (fork_play_whispers(play)) {
			fork_play_whisper(play, room, SLOT, 8000, 1);
		}
		usleep(50);
	}
	return NULL;
}

static void read_news(void)
{
	struct fork_play_news news;
	struct fork_guard_note note;

	while (fork_digits_first(&guard.digits)) {
		fork_guard_note(&guard, &note);
		fork_digits_pop(&guard.digits);
	}
	while (fork_play_news(play, &news)) {
		over += news.what == FORK_NEWS_PLAYED;
	}
	fork_play_has_room(play);
}

static void open_next(const char *id, bool whisper)
{
	while (fork_play_open(play, id, 8000, whisper, 0)) {
		read_news(); /* all places are taken */
		nap();
	}
}

static void send(const char *id, unsigned int samples, bool clear)
{
	static const struct fork_guard_ask ask = { .name = "g",
		.order = { .mode = FORK_KEYS_BLOCK, .stopped = 0xffff } };

	for (unsigned int sent = 0; sent < samples;) {
		unsigned int part = 1 + (unsigned int) random() % 700;
		unsigned char bytes[1402];

		part = part < samples - sent ? part : samples - sent;
		for (unsigned int i = 0; i < part; i++, sent++) {
			bytes[2 * i] = (unsigned char) ((sent + 1) & 0xff);
			bytes[2 * i + 1] = (unsigned char) ((sent + 1) >> 8);
		}
		lies += fork_play_write(play, bytes, 2 * part, true) != NULL;
		lies += fork_play_mark(play, id, "m", -1) != NULL;
		lies += fork_play_guard(play, id, &ask, -1) != NULL;
		if (clear && sent > samples / 2) {
			fork_play_clear(play, id);
			return;
		}
		read_news();
		while (fork_play_full(play)) {
			read_news();
			nap();
		}
	}
	fork_play_end(play, id);
}

int main(int argc, char **argv)
{
	unsigned int wanted;
	pthread_t player, whisperer;
	char id[16];

	prompts = argc > 1 ? (unsigned int) atoi(argv[1]) : 1000;
	wanted = prompts + prompts / 3;
	play = fork_play_new(1000);
	fork_guard_init(&guard, &cells, now_ms);
	fork_play_set_guard(play, &guard);
	if (pthread_create(&player, NULL, play_all, NULL)
		|| pthread_create(&whisperer, NULL, whisper_all, NULL)) {
		return 1;
	}
	for (unsigned int n = 1; n <= prompts; n++) {
		unsigned int samples = 1 + (unsigned int) random() % 4000;

		if (n % 3 == 0) {
			snprintf(id, sizeof(id), "w%u", n);
			open_next(id, true);
			send(id, samples, false);
		}
		snprintf(id, sizeof(id), "p%u", n);
		open_next(id, false);
		send(id, samples, n % 5 == 0);
	}
	pthread_join(player, NULL);
	while (over < wanted) {
		read_news();
		nap();
	}
	done = true;
	pthread_join(whisperer, NULL);
	read_news();
	printf("{\"over\": %u, \"wanted\": %u, \"cleared\": %u, \"wishes\": %u, \"lies\": %u, "
		"\"total_ms\": %llu}\n", over, wanted, cleared, wishes, lies,
		(unsigned long long) fork_play_total_ms(play));
	fork_play_free(play);
	fork_guard_destroy(&guard);
	return lies != 0;
}
