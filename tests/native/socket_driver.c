/*
 * asterisk-dialog: a driver for the WebSocket's side of the fork.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief Commands on stdin, replies and events on stdout, one a line. Plays Asterisk's part.
 *
 * open N URL [key=value ...]     name dir ring_ms connect_ms stall_ms flush_ms r delay max_delay
 *                                ca cert key server_name rate out message_ms json header keys
 * push N in|out FRAMES RATE VALUE  20 ms frames, all samples VALUE, at once
 * pace N in|out FRAMES             one each 20 ms, its first 4 samples the time in µs
 * mute N in|out 0|1   stream N 0|1   digit N DIGIT   hangup N CAUSE
 * wish N   over N NUMBER           what the server wishes for the keys: the oldest; overruled
 * attach N [ID]   take N FRAMES   detach N   whisper N COUNT RATE VALUE    samples come in hex
 * rename N NAME   close N REASON   free N   stats N   stop MS   start
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fork_play.h"
#include "fork_socket.h"

#define LINKS 512
#define RATE_MAX_HZ 192000

static struct fork_link *links[LINKS];
static struct fork_prompt *prompts[LINKS]; /* what the link's player plays */
static char headers[600];
/* As a careless PBX may have it: quotes, half a character, a control character. */
static const struct fork_facts facts = {
	.uniqueid = "1700000000.1", .linkedid = "1700000000.0", .caller_number = "+70001",
	.caller_name = "O\"Hara \xd0", .called = "100", .variables = 2,
	.variable = { { "TASK", "42" }, { "NOTE", "\x01" } },
};

/*! \brief More than fits into a message. */
static const struct fork_facts *long_facts(void)
{
	static struct fork_facts longest;

	longest.variables = FORK_VARIABLES_MAX;
	for (int i = 0; i < FORK_VARIABLES_MAX; i++) {
		snprintf(longest.variable[i].name, sizeof(longest.variable[i].name), "NAME%d", i);
		memset(longest.variable[i].value, 'x', sizeof(longest.variable[i].value) - 1);
	}
	return &longest;
}

static unsigned long long now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (unsigned long long) now.tv_sec * 1000000 + (unsigned long long) now.tv_nsec / 1000;
}

static void on_log(enum fork_log_level level, const char *text)
{
	printf("log %d %s\n", level, text);
}

static void on_said(void *user, const char *text)
{
	printf("log 0 said %d %s\n", (int) (size_t) user, text);
}

static void print_stats(const char *what, int n, const char *reason, const struct fork_stats *s)
{
	printf("%s %d {\"state\": \"%s\", \"captured_us\": [%llu, %llu], \"dropped_us\": [%llu, %llu], "
		"\"sent\": %llu, \"sent_us\": [%llu, %llu], \"messages\": %llu, \"waiting\": %llu, "
		"\"digits\": [%u, %u], \"bad\": %u, \"connects\": %u, \"reason\": \"%s\"}\n", what, n,
		fork_state_name(s->state), (unsigned long long) s->captured_us[0],
		(unsigned long long) s->captured_us[1], (unsigned long long) s->dropped_us[0],
		(unsigned long long) s->dropped_us[1], (unsigned long long) s->frames_sent,
		(unsigned long long) s->sent_us[0], (unsigned long long) s->sent_us[1],
		(unsigned long long) s->messages_sent, (unsigned long long) s->waiting_cells, s->digits,
		s->digits_lost, s->bad_messages, s->connects, reason);
}

static void on_ended(void *user, const char *reason, const struct fork_stats *stats)
{
	print_stats("ended", (int) (size_t) user, reason, stats);
}

/*! \brief Settings of `open`; the numbers' defaults are audiofork.conf's. */
static void set_param(struct fork_link_params *p, const char *key, const char *value)
{
	const struct {
		const char *key;
		unsigned int *number;
		char *text;
	} fields[] = {
		{ "ring_ms", &p->ring_ms, NULL }, { "connect_ms", &p->connect_timeout_ms, NULL },
		{ "stall_ms", &p->stall_timeout_ms, NULL }, { "flush_ms", &p->flush_ms, NULL },
		{ "delay", &p->delay_ms, NULL }, { "max_delay", &p->delay_max_ms, NULL },
		{ "rate", &p->rate_hz, NULL }, { "name", NULL, p->name }, { "ca", NULL, p->tls_ca },
		{ "cert", NULL, p->tls_cert }, { "key", NULL, p->tls_key },
		{ "server_name", NULL, p->tls_name }, { "out", &p->rate_hz_out, NULL },
		{ "message_ms", &p->message_ms, NULL }, { "play_ms", &p->play_buffer_ms, NULL },
	};

	for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
		if (!strcmp(key, fields[i].key) && fields[i].number) {
			*fields[i].number = (unsigned int) strtoul(value, NULL, 10);
		} else if (!strcmp(key, fields[i].key)) {
			strcpy(fields[i].text, value);
		}
	}
	if (!strcmp(key, "r")) {
		p->reconnect = true;
		p->attempts = (unsigned int) strtoul(value, NULL, 10);
	} else if (!strcmp(key, "dir")) {
		p->read = strcmp(value, "out");
		p->write = strcmp(value, "in");
		p->stereo = !strcmp(value, "stereo");
	} else if (!strcmp(key, "json")) {
		p->json = true;
		p->facts = strcmp(value, "long") ? &facts : long_facts();
	} else if (!strcmp(key, "keys")) {
		p->keys = true;
	} else if (!strcmp(key, "header")) {
		/* NAME:VALUE, no blanks */
		snprintf(headers, sizeof(headers), "%.*s: %s\n", (int) strcspn(value, ":"), value,
			strchr(value, ':') + 1);
		p->headers = headers;
	}
}

static void do_open(int n, char *rest)
{
	struct fork_link_params p = { .read = true, .rate_hz = 8000, .ring_ms = 2000,
		.rate_hz_out = 8000, .message_ms = 20, .play_buffer_ms = 4000, .connect_timeout_ms = 5000, .stall_timeout_ms = 10000, .flush_ms = 1000, .delay_ms = 500,
		.delay_max_ms = 10000, .name = "Local/test-1;1" };
	const char *why = "", *word = strtok(rest, " ");

	snprintf(p.id, sizeof(p.id), "id-%d", n);
	if (!word || fork_url_parse(&p.url, word, &why)) {
		printf("error %s\n", why);
		return;
	}
	while ((word = strtok(NULL, " "))) {
		char *value = strchr(word, '=');

		if (value) {
			*value = '\0';
			set_param(&p, word, value + 1);
		}
	}
	links[n] = fork_link_open(&p, (void *) (size_t) n);
	printf(links[n] ? "ok\n" : "error no memory\n");
}

static void do_push(int n, const char *rest)
{
	static int16_t samples[RATE_MAX_HZ / 50];
	char direction[4];
	unsigned int frames, rate, taken = 0;
	int value;

	if (sscanf(rest, "%3s %u %u %d", direction, &frames, &rate, &value) != 4 || rate > RATE_MAX_HZ) {
		printf("error push\n");
		return;
	}
	for (size_t i = 0; i < rate / 50; i++) {
		samples[i] = (int16_t) value;
	}
	for (unsigned int i = 0; i < frames; i++) {
		taken += fork_link_push(links[n], !strcmp(direction, "out"), samples, rate / 50, rate);
	}
	printf("ok %u\n", taken);
}

static void do_pace(int n, const char *rest)
{
	struct timespec next;
	int16_t samples[160] = { 0 };
	char direction[4];
	unsigned int frames;

	if (sscanf(rest, "%3s %u", direction, &frames) != 2) {
		printf("error pace\n");
		return;
	}
	clock_gettime(CLOCK_MONOTONIC, &next);
	for (unsigned int i = 0; i < frames; i++) {
		unsigned long long now = now_us();

		memcpy(samples, &now, sizeof(now));
		fork_link_push(links[n], !strcmp(direction, "out"), samples, 160, 8000);
		next.tv_nsec += 20000000;
		if (next.tv_nsec >= 1000000000) {
			next.tv_nsec -= 1000000000;
			next.tv_sec++;
		}
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
	}
	printf("ok\n");
}

static void print_samples(const int16_t *samples, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		printf("%02x%02x", (uint16_t) samples[i] & 0xff, (uint16_t) samples[i] >> 8);
	}
}

/*! \brief Up to so many frames of 160 samples, and how it went on. */
static void do_take(int n, unsigned int frames)
{
	static const char *const names[] = { "audio", "wait", "paused", "over" };
	enum fork_take result = FORK_TAKE_AUDIO;
	int16_t samples[160];

	printf("ok ");
	for (unsigned int i = 0; i < frames && result == FORK_TAKE_AUDIO; i++) {
		size_t count = 160;

		result = fork_play_take(fork_link_play(links[n]), prompts[n], samples, &count, now_us());
		if (result == FORK_TAKE_AUDIO) {
			print_samples(samples, count);
		}
	}
	fork_link_played(links[n]);
	printf(" %s\n", names[result]);
}

static void do_player(const char *verb, int n, const char *rest)
{
	struct fork_play *play = fork_link_play(links[n]);
	enum fork_play_how how = FORK_PLAY_END;
	uint64_t ms = 0;

	if (!strcmp(verb, "attach")) {
		int result = fork_play_attach(play, rest, -1, &prompts[n], &how);

		printf("ok %d %s\n", result, fork_play_how_name(how));
	} else if (!strcmp(verb, "take")) {
		do_take(n, (unsigned int) atoi(rest));
	} else {
		how = fork_play_detach(play, prompts[n], FORK_PLAY_DIGIT, &ms);
		fork_link_played(links[n]);
		printf("ok %s %llu\n", fork_play_how_name(how), (unsigned long long) ms);
	}
}

static void do_whisper(int n, const char *rest)
{
	int16_t samples[RATE_MAX_HZ / 50];
	unsigned int count, rate;
	int value;

	if (sscanf(rest, "%u %u %d", &count, &rate, &value) != 3 || count > RATE_MAX_HZ / 50) {
		printf("error whisper\n");
		return;
	}
	for (unsigned int i = 0; i < count; i++) {
		samples[i] = (int16_t) value;
	}
	printf("ok %d ", fork_link_whisper(links[n], samples, count, rate));
	print_samples(samples, count);
	printf("\n");
}

/*! \brief Number, mode, kept, ms to the limit (0: none), whether the fork has ended. */
static void do_wish(int n)
{
	uint64_t number = fork_link_wishes(links[n]);
	struct fork_wish wish = { .number = 0 };

	if (!fork_link_take_wish(links[n], &wish)) {
		printf("ok none\n");
		return;
	}
	printf("ok %llu %s %s %d %d\n", (unsigned long long) wish.number,
		fork_keys_mode_name(wish.order.mode), fork_kept_name(wish.order.kept),
		wish.order.until_ms ? (int) (wish.order.until_ms - now_us() / 1000) : 0, wish.leave);
	if (number != wish.number) {
		printf("log 3 the oldest wish had another number\n");
	}
}

static void do_link(const char *verb, int n, char *rest)
{
	struct fork_stats stats;

	if (!strcmp(verb, "open")) {
		do_open(n, rest);
		return;
	}
	if (!links[n]) {
		printf("error no link\n");
		return;
	}
	if (!strcmp(verb, "push")) {
		do_push(n, rest);
		return;
	}
	if (!strcmp(verb, "attach") || !strcmp(verb, "take") || !strcmp(verb, "detach")) {
		do_player(verb, n, rest);
		return;
	}
	if (!strcmp(verb, "whisper")) {
		do_whisper(n, rest);
		return;
	}
	if (!strcmp(verb, "wish")) {
		do_wish(n);
		return;
	}
	if (!strcmp(verb, "pace")) {
		do_pace(n, rest);
		return;
	}
	if (!strcmp(verb, "stats")) {
		fork_link_stats(links[n], &stats);
		print_stats("stats", n, "", &stats);
		return;
	}
	if (!strcmp(verb, "mute")) {
		fork_link_mute(links[n], !strncmp(rest, "out", 3), strchr(rest, '1') != NULL);
	} else if (!strcmp(verb, "stream")) {
		fork_link_stream(links[n], rest[0] == '1');
	} else if (!strcmp(verb, "digit")) {
		fork_link_digit(links[n], rest[0], 100, FORK_KEY_PASSED);
	} else if (!strcmp(verb, "over")) {
		fork_link_guard_over(links[n], strtoull(rest, NULL, 10));
	} else if (!strcmp(verb, "hangup")) {
		fork_link_hangup(links[n], atoi(rest));
	} else if (!strcmp(verb, "rename")) {
		fork_link_rename(links[n], rest);
	} else if (!strcmp(verb, "close")) {
		fork_link_close(links[n], rest);
	} else if (!strcmp(verb, "free")) {
		fork_link_unref(links[n]);
		links[n] = NULL;
	}
	printf("ok\n");
}

int main(void)
{
	const struct fork_service_config config = { .log = on_log, .ended = on_ended,
		.said = on_said };
	char line[2048], verb[16];
	int n, used;

	setvbuf(stdout, NULL, _IOLBF, 1 << 16);
	if (fork_service_start(&config)) {
		printf("error start\n");
		return 1;
	}
	printf("ready\n");
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		used = n = 0;
		if (sscanf(line, "%15s %d %n", verb, &n, &used) < 1) {
			continue;
		}
		if (!strcmp(verb, "stop")) {
			printf("ok %d\n", fork_service_stop((unsigned int) n));
		} else if (!strcmp(verb, "start")) {
			printf("ok %d\n", fork_service_start(&config));
		} else if (n >= 0 && n < LINKS && used) {
			do_link(verb, n, line + used);
		} else {
			printf("error command\n");
		}
	}
	return 0;
}
