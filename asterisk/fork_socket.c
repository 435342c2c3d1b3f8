/*
 * asterisk-dialog: the WebSocket's side of the fork.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief Links as their owners see them, and the way to the service thread.
 *
 * The channel's thread fills the ring, puts the link on the stack of links with news and, if
 * the stack was empty, wakes the service, which takes them from there (fork_life.c).
 */

#include "fork_link.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* With more links up than this the service thread looks for news by the clock, and nobody wakes it:
 * the frames of several calls share one turn of its loop. A frame leaves within a stroke then. */
#define FEW_LINKS 8
#define STROKE_US 5000
/* After so many strokes without news it sleeps until it is woken. */
#define QUIET_STROKES 20

static struct {
	struct fork_service_config config;
	_Atomic(struct fork_link *) news; /* stack of links with news, latest first */
	_Atomic unsigned int links;       /* opened, and not yet freed */
	_Atomic bool by_clock;            /* the service thread will look for news unasked */
	unsigned int quiet;               /* service thread only: strokes without news, in a row */
	bool running;
} service;

uint64_t fork_now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t) now.tv_sec * 1000000 + (uint64_t) now.tv_nsec / 1000;
}

void fork_say(enum fork_log_level level, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	service.config.log(level, text);
}

void fork_tell_ended(struct fork_link *link, const char *reason, const struct fork_stats *stats)
{
	service.config.ended(link->user, reason, stats);
}

void fork_tell_event(struct fork_link *link, enum fork_event what, const char *reason, int64_t ms)
{
	struct fork_stats stats;

	if (service.config.event) {
		fork_link_stats(link, &stats);
		service.config.event(link->user, what, reason, ms, &stats);
	}
}

void fork_tell_said(struct fork_link *link, const char *text)
{
	if (service.config.said) {
		service.config.said(link->user, text);
	}
}

const char *fork_label(struct fork_link *link, char *text, size_t size)
{
	char name[FORK_NAME_MAX];

	pthread_mutex_lock(&link->lock);
	memcpy(name, link->name, sizeof(name));
	pthread_mutex_unlock(&link->lock);
	snprintf(text, size, "AudioFork %s of %s to %s", link->params.id, name,
		link->params.url.shown);
	return text;
}

const char *fork_state_name(enum fork_state state)
{
	static const char *const names[] = {
		[FORK_NEW] = "new", [FORK_RESOLVING] = "resolving", [FORK_CONNECTING] = "connecting",
		[FORK_UP] = "up", [FORK_BACKOFF] = "waiting", [FORK_CLOSING] = "closing",
		[FORK_DONE] = "done",
	};

	return names[state];
}

/* ---- references and news: any thread ---- */

void fork_link_ref(struct fork_link *link)
{
	atomic_fetch_add_explicit(&link->refs, 1, memory_order_relaxed);
}

/*! \brief What a link has of its own, all of which may be NULL. */
static void free_parts(struct fork_link *link)
{
	if (link->params.headers) {
		explicit_bzero((char *) link->params.headers, strlen(link->params.headers));
	}
	free((char *) link->params.headers);
	free((struct fork_facts *) link->params.facts);
	free(link->ring.words);
	free(link->replies);
	free(link->inbox);
	fork_play_free(link->play);
	fork_guard_destroy(&link->guard);
	free(link->gathered);
	free(link->message);
}

void fork_link_unref(struct fork_link *link)
{
	if (!link || atomic_fetch_sub_explicit(&link->refs, 1, memory_order_acq_rel) != 1) {
		return;
	}
	fork_mixer_free(&link->mixer);
	free_parts(link);
	pthread_mutex_destroy(&link->lock);
	free(link);
	atomic_fetch_sub(&service.links, 1);
}

void fork_tell_news(struct fork_link *link)
{
	struct fork_link *top;

	if (atomic_exchange_explicit(&link->has_news, true, memory_order_acq_rel)) {
		return;
	}
	fork_link_ref(link);
	top = atomic_load_explicit(&service.news, memory_order_relaxed);
	do {
		link->next_news = top;
	} while (!atomic_compare_exchange_weak_explicit(&service.news, &top, link,
		memory_order_seq_cst, memory_order_relaxed));
	/* Who finds the stack empty wakes the service; the others ride along. */
	if (!top && !atomic_load(&service.by_clock)) {
		fork_wire_wake();
	}
}

/*! \brief Memory that `what` is copied to; NULL for NULL, and then *failed stays as it is. */
static void *copy_of(const void *what, size_t size, bool *failed)
{
	void *copy = what ? malloc(size) : NULL;

	if (copy) {
		memcpy(copy, what, size);
	} else if (what) {
		*failed = true;
	}
	return copy;
}

static uint64_t now_ms(void)
{
	return fork_now_us() / 1000;
}

/*! \brief Memory for all that a link of these parameters needs. \retval -1 there is not enough */
static int alloc_parts(struct fork_link *link, const struct fork_link_params *p)
{
	/* Two directions share the ring; a cell is 20 ms at 8 kHz. */
	uint64_t cells = ((uint64_t) p->ring_ms * p->rate_hz / FORK_RATE_HZ + 19) / 20
		* ((p->read ? 1 : 0) + (p->write ? 1 : 0));
	size_t text = p->json ? FORK_TEXT_MAX : FORK_NAME_MAX;
	bool failed = false;
	void *memory;

	cells = cells ? cells : 1;
	link->message_bytes = (size_t) p->message_ms * p->rate_hz_out / 1000 * (p->stereo ? 4 : 2);
	link->params.headers = copy_of(p->headers, p->headers ? strlen(p->headers) + 1 : 0, &failed);
	link->params.facts = copy_of(p->facts, sizeof(*p->facts), &failed);
	memory = malloc(FORK_RING_BYTES(cells));
	link->message = malloc(LWS_PRE + (text > link->message_bytes ? text : link->message_bytes));
	if (p->json) {
		link->replies = malloc(FORK_REPLIES_BYTES);
		link->inbox = malloc(FORK_TEXT_MAX);
		link->play = fork_play_new(p->play_buffer_ms);
		failed = failed || !link->replies || !link->inbox || !link->play;
	}
	if (link->play && p->keys) {
		fork_play_set_guard(link->play, &link->guard);
	}
	link->gathered = malloc(link->message_bytes);
	fork_ring_init(&link->ring, memory, cells);
	return failed || !memory || !link->message || !link->gathered ? -1 : 0;
}

struct fork_link *fork_link_open(const struct fork_link_params *params, void *user)
{
	const struct fork_shape shape = { .read = params->read, .write = params->write,
		.stereo = params->stereo, .rate_hz = params->rate_hz_out,
		.read_gain = params->read_gain, .write_gain = params->write_gain };
	struct fork_link *link = calloc(1, sizeof(*link));

	if (!link) {
		return NULL;
	}
	link->params = *params;
	fork_guard_init(&link->guard, &link->ring.head, now_ms);
	if (alloc_parts(link, params)) {
		free_parts(link);
		free(link);
		return NULL;
	}
	link->user = user;
	link->refs = 2;
	link->hangup_cause = -1;
	pthread_mutex_init(&link->lock, NULL);
	snprintf(link->name, sizeof(link->name), "%s", params->name);
	fork_mixer_init(&link->mixer, &shape);
	atomic_fetch_add(&service.links, 1);
	fork_tell_news(link);
	return link;
}

bool fork_link_push(struct fork_link *link, enum fork_direction direction,
	const int16_t *samples, size_t count, uint32_t rate_hz)
{
	struct fork_cell cell = {
		.time_us = fork_now_us(),
		.rate_hz = rate_hz,
		.direction = direction,
		.silent = atomic_load_explicit(&link->muted[direction], memory_order_relaxed),
	};

	if (atomic_load_explicit(&link->dead, memory_order_relaxed)) {
		return false;
	}
	/* What would come after the last that is sent is none of the stream's. */
	if (!rate_hz || atomic_load_explicit(&link->paused, memory_order_relaxed)
		|| atomic_load_explicit(&link->closing, memory_order_relaxed)) {
		return true;
	}
	while (count) {
		cell.count = count < FORK_CELL_SAMPLES ? count : FORK_CELL_SAMPLES;
		if (!cell.silent) {
			memcpy(cell.samples, samples, cell.count * sizeof(*samples));
		}
		fork_ring_push(&link->ring, &cell);
		atomic_fetch_add_explicit(&link->captured_us[direction], fork_cell_us(&cell),
			memory_order_relaxed);
		samples += cell.count;
		count -= cell.count;
	}
	/* Nobody can be sent anything before the connection is up: then it looks by itself. */
	if (atomic_load_explicit(&link->state, memory_order_relaxed) == FORK_UP
		|| fork_overrun_due(link, cell.time_us)) {
		fork_tell_news(link);
	}
	return true;
}

void fork_link_mute(struct fork_link *link, enum fork_direction direction, bool muted)
{
	atomic_store(&link->muted[direction], muted);
}

void fork_link_stream(struct fork_link *link, bool on)
{
	atomic_store(&link->paused, !on);
}

void fork_link_digit(struct fork_link *link, char digit, unsigned int duration_ms,
	enum fork_key_verdict verdict)
{
	const struct fork_key key = { .digit = digit, .duration_ms = duration_ms };

	if (link->params.json && !atomic_load_explicit(&link->dead, memory_order_relaxed)
		&& fork_guard_key(&link->guard, &key, verdict)) {
		fork_tell_news(link);
	}
}

uint64_t fork_link_wishes(struct fork_link *link)
{
	return atomic_load(&link->guard.waits);
}

bool fork_link_take_wish(struct fork_link *link, struct fork_wish *wish)
{
	return fork_guard_take(&link->guard, wish);
}

void fork_link_guard_over(struct fork_link *link, uint64_t number)
{
	fork_guard_over(&link->guard, number);
}

void fork_link_hangup(struct fork_link *link, int cause)
{
	atomic_store(&link->hangup_cause, cause < 0 ? 0 : cause);
	fork_link_close(link, "hangup");
}

void fork_link_rename(struct fork_link *link, const char *name)
{
	pthread_mutex_lock(&link->lock);
	snprintf(link->name, sizeof(link->name), "%s", name);
	pthread_mutex_unlock(&link->lock);
}

void fork_link_close(struct fork_link *link, const char *reason)
{
	pthread_mutex_lock(&link->lock);
	if (!link->close_reason[0]) {
		snprintf(link->close_reason, sizeof(link->close_reason), "%s", reason);
	}
	pthread_mutex_unlock(&link->lock);
	atomic_store(&link->closing, true);
	fork_guard_leave(&link->guard);
	/* Of a link that has ended by itself what has come is played. */
	if (link->play && !atomic_load(&link->dead)) {
		fork_play_shut(link->play);
	}
	fork_tell_news(link);
}

void fork_link_stats(struct fork_link *link, struct fork_stats *stats)
{
	stats->state = atomic_load(&link->state);
	for (int d = 0; d < FORK_DIRECTIONS; d++) {
		stats->captured_us[d] = atomic_load(&link->captured_us[d]);
		stats->dropped_us[d] = atomic_load(&link->ring.dropped_us[d]);
		stats->sent_us[d] = atomic_load(&link->sent_us[d]);
	}
	stats->frames_sent = atomic_load(&link->frames_sent);
	stats->messages_sent = atomic_load(&link->messages_sent);
	stats->digits = atomic_load(&link->guard.digits.taken);
	stats->digits_lost = atomic_load(&link->guard.digits.lost);
	stats->bad_messages = atomic_load(&link->bad_messages);
	stats->replies_lost = atomic_load(&link->replies_lost) + atomic_load(&link->guard.lost);
	stats->bytes_sent = atomic_load(&link->bytes_sent);
	stats->failures = atomic_load(&link->failed);
	stats->overruns = atomic_load(&link->overruns);
	stats->plays = atomic_load(&link->plays);
	stats->played_ms = link->play ? fork_play_total_ms(link->play) : 0;
	stats->waiting_cells = fork_ring_waiting(&link->ring);
	stats->connects = atomic_load(&link->connects);
}

/* ---- the news, on the service thread ---- */

/*! \return whether there were any */
static bool handle_news(void)
{
	struct fork_link *link = atomic_exchange(&service.news, NULL);
	bool any = link;

	while (link) {
		struct fork_link *next = link->next_news;

		/* From here on the link may be on the stack again. */
		atomic_store_explicit(&link->has_news, false, memory_order_seq_cst);
		fork_handle_news(link);
		fork_link_unref(link);
		link = next;
	}
	return any;
}

/*! \brief Sleep to the next multiple of STROKE_US. */
static void await_stroke(void)
{
	uint64_t next = (fork_now_us() / STROKE_US + 1) * STROKE_US;
	const struct timespec until = { .tv_sec = (time_t) (next / 1000000),
		.tv_nsec = (long) (next % 1000000) * 1000 };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

bool fork_news_by_clock(void)
{
	bool by_clock = fork_links_up() > FEW_LINKS && service.quiet < QUIET_STROKES;

	/* Before the look at the stack: what is put there after it finds this and wakes us. */
	atomic_store(&service.by_clock, by_clock);
	if (by_clock) {
		await_stroke();
	}
	service.quiet = handle_news() ? 0 : service.quiet + 1;
	return by_clock;
}

/* ---- start and stop: the owner's thread ---- */

int fork_service_start(const struct fork_service_config *config)
{
	service.config = *config;
	atomic_store(&service.news, NULL);
	if (fork_resolver_start()) {
		return -1;
	}
	if (fork_wire_start()) {
		fork_resolver_stop(1000);
		return -1;
	}
	service.running = true;
	return 0;
}

int fork_service_stop(unsigned int timeout_ms)
{
	uint64_t until = fork_now_us() + (uint64_t) timeout_ms * 1000;

	if (!service.running) {
		return 0;
	}
	while (atomic_load(&service.links)) {
		struct timespec nap = { .tv_nsec = 5000000 };

		if (fork_now_us() > until) {
			return -1;
		}
		nanosleep(&nap, NULL);
	}
	if (fork_resolver_stop(timeout_ms)) {
		return -1;
	}
	fork_wire_stop();
	service.running = false;
	return 0;
}
