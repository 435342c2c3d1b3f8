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
 *                                ca cert key rate
 * push N in|out FRAMES RATE VALUE  20 ms frames, all samples VALUE, at once
 * pace N in|out FRAMES             one each 20 ms, its first 4 samples the time in µs
 * mute N in|out 0|1   rename N NAME   close N REASON   free N   stats N   stop MS   start
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fork_socket.h"

#define LINKS 512
#define RATE_MAX_HZ 192000

static struct fork_link *links[LINKS];

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

static void print_stats(const char *what, int n, const char *reason, const struct fork_stats *s)
{
	printf("%s %d {\"state\": \"%s\", \"captured_us\": [%llu, %llu], \"dropped_us\": [%llu, %llu], "
		"\"sent\": %llu, \"waiting\": %llu, \"connects\": %u, \"reason\": \"%s\"}\n", what, n,
		fork_state_name(s->state), (unsigned long long) s->captured_us[0],
		(unsigned long long) s->captured_us[1], (unsigned long long) s->dropped_us[0],
		(unsigned long long) s->dropped_us[1], (unsigned long long) s->frames_sent,
		(unsigned long long) s->waiting_cells, s->connects, reason);
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
	}
}

static void do_open(int n, char *rest)
{
	struct fork_link_params p = { .read = true, .rate_hz = 8000, .ring_ms = 2000,
		.connect_timeout_ms = 5000, .stall_timeout_ms = 10000, .flush_ms = 1000, .delay_ms = 500,
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
	const struct fork_service_config config = { .log = on_log, .ended = on_ended };
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
