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
 * \brief A link's life: NEW, RESOLVING, CONNECTING, UP, BACKOFF, CLOSING, DONE.
 *
 * The states change on the service thread only. The channel's thread fills the ring, puts
 * the link on the stack of links with news and, if the stack was empty, wakes the service.
 */

#include "fork_link.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A connection that lived for so long is forgiven all attempts before it. */
#define STABLE_US 5000000
/* After our close frame, time for the server's. */
#define LINGER_US 1000000
#define TICK_US 1000000
/* With many links the service thread first waits a little after it was woken, so that the frames
 * of several calls share one turn of its loop: most of a frame's cost is the turn, not the frame. */
#define MANY_LINKS 8
#define GATHER_NS 1000000
/* Frames written in one go; other links get their turn in between. */
#define BURST_FRAMES 64
#define LONGEST_DOUBLING 16

static struct {
	struct fork_service_config config;
	_Atomic(struct fork_link *) news; /* stack of links with news, latest first */
	_Atomic unsigned int links;       /* opened, and not yet freed */
	struct fork_link *first;          /* service thread: links that are not DONE */
	unsigned int up;                  /* service thread: of these, how many are UP */
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

/*! \brief The link as an admin knows it; service thread. */
static const char *label(struct fork_link *link, char *text, size_t size)
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

static void link_ref(struct fork_link *link)
{
	atomic_fetch_add_explicit(&link->refs, 1, memory_order_relaxed);
}

void fork_link_unref(struct fork_link *link)
{
	if (!link || atomic_fetch_sub_explicit(&link->refs, 1, memory_order_acq_rel) != 1) {
		return;
	}
	fork_mixer_free(&link->mixer);
	free(link->ring.words);
	pthread_mutex_destroy(&link->lock);
	free(link);
	atomic_fetch_sub(&service.links, 1);
}

static void tell_news(struct fork_link *link)
{
	struct fork_link *top;

	if (atomic_exchange_explicit(&link->has_news, true, memory_order_acq_rel)) {
		return;
	}
	link_ref(link);
	top = atomic_load_explicit(&service.news, memory_order_relaxed);
	do {
		link->next_news = top;
	} while (!atomic_compare_exchange_weak_explicit(&service.news, &top, link,
		memory_order_acq_rel, memory_order_relaxed));
	/* Who finds the stack empty wakes the service; the others ride along. */
	if (!top) {
		fork_wire_wake();
	}
}

struct fork_link *fork_link_open(const struct fork_link_params *params, void *user)
{
	struct fork_link *link = calloc(1, sizeof(*link));
	/* Two directions share the ring; a cell is 20 ms at 8 kHz. */
	uint64_t cells = ((uint64_t) params->ring_ms * params->rate_hz / FORK_RATE_HZ + 19) / 20
		* ((params->read ? 1 : 0) + (params->write ? 1 : 0));

	void *memory;

	cells = cells ? cells : 1;
	memory = malloc(FORK_RING_BYTES(cells));
	if (!link || !memory) {
		free(link);
		free(memory);
		return NULL;
	}
	fork_ring_init(&link->ring, memory, cells);
	link->params = *params;
	link->user = user;
	link->refs = 2;
	pthread_mutex_init(&link->lock, NULL);
	snprintf(link->name, sizeof(link->name), "%s", params->name);
	fork_mixer_init(&link->mixer, params->read, params->write, params->read_gain,
		params->write_gain);
	atomic_fetch_add(&service.links, 1);
	tell_news(link);
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
	if (!rate_hz) {
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
	if (atomic_load_explicit(&link->state, memory_order_relaxed) == FORK_UP) {
		tell_news(link);
	}
	return true;
}

void fork_link_mute(struct fork_link *link, enum fork_direction direction, bool muted)
{
	atomic_store(&link->muted[direction], muted);
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
	tell_news(link);
}

void fork_link_stats(struct fork_link *link, struct fork_stats *stats)
{
	stats->state = atomic_load(&link->state);
	for (int d = 0; d < FORK_DIRECTIONS; d++) {
		stats->captured_us[d] = atomic_load(&link->captured_us[d]);
		stats->dropped_us[d] = atomic_load(&link->ring.dropped_us[d]);
	}
	stats->frames_sent = atomic_load(&link->frames_sent);
	stats->waiting_cells = fork_ring_waiting(&link->ring);
	stats->connects = atomic_load(&link->connects);
}

/* ---- from here on: service thread ---- */

static void set_state(struct fork_link *link, enum fork_state state)
{
	service.up -= atomic_load(&link->state) == FORK_UP;
	service.up += state == FORK_UP;
	atomic_store(&link->state, state);
}

/*! \brief Count what will never be sent, so that captured = sent + dropped. */
static void count_unsent(struct fork_link *link, struct fork_stats *stats)
{
	struct fork_cell cell;

	while (fork_ring_pop(&link->ring, &cell)) {
		stats->dropped_us[cell.direction & 1] += fork_cell_us(&cell);
	}
	for (int d = 0; d < FORK_DIRECTIONS; d++) {
		stats->dropped_us[d] += (uint64_t) link->mixer.fifo[d].count * 1000000 / FORK_RATE_HZ;
	}
}

static void finish(struct fork_link *link, const char *reason)
{
	struct fork_stats stats;
	char text[400];
	uint64_t lost_us;

	fork_wire_timer(link, -1);
	fork_wire_kill(link);
	atomic_store(&link->dead, true);
	set_state(link, FORK_DONE);
	fork_link_stats(link, &stats);
	count_unsent(link, &stats);
	*(link->previous ? &link->previous->next : &service.first) = link->next;
	if (link->next) {
		link->next->previous = link->previous;
	}
	lost_us = stats.dropped_us[FORK_READ] + stats.dropped_us[FORK_WRITE];
	fork_say(lost_us ? FORK_LOG_NOTICE : FORK_LOG_VERBOSE, "%s ended: %s; captured %.2f s in, "
		"%.2f s out, sent %llu frames, lost %.2f s, %u connection(s)",
		label(link, text, sizeof(text)), reason, stats.captured_us[FORK_READ] / 1e6,
		stats.captured_us[FORK_WRITE] / 1e6, (unsigned long long) stats.frames_sent,
		lost_us / 1e6, stats.connects);
	service.config.ended(link->user, reason, &stats);
	fork_link_unref(link);
}

static void finish_closed(struct fork_link *link)
{
	char reason[FORK_REASON_MAX];

	pthread_mutex_lock(&link->lock);
	memcpy(reason, link->close_reason, sizeof(reason));
	pthread_mutex_unlock(&link->lock);
	finish(link, reason);
}

/*! \brief Half to all of the doubled delay, so that forks do not come back in one crowd. */
static int64_t back_off_us(const struct fork_link *link)
{
	unsigned int doubling = link->failures ? link->failures - 1 : 0;
	uint64_t delay_ms = (uint64_t) link->params.delay_ms
		<< (doubling < LONGEST_DOUBLING ? doubling : LONGEST_DOUBLING);

	if (delay_ms > link->params.delay_max_ms) {
		delay_ms = link->params.delay_max_ms;
	}
	return (int64_t) (delay_ms * 500 + (uint64_t) random() % (delay_ms * 500 + 1));
}

/*!
 * \brief Whether the server's close code says that it wants no more.
 *
 * 1000 (done), 1003, 1007..1010 (what we send is wrong) and its own 4000..4999 are its last
 * word; 1001, 1005, 1006, 1011..1013 and a broken connection are mishaps.
 */
static bool final_word(int code)
{
	return code == 1000 || code == 1003 || (code >= 1007 && code <= 1010)
		|| (code >= 4000 && code <= 4999);
}

/*! \brief The attempt, or the connection, came to nothing: once more, or the end. */
static void attempt_failed(struct fork_link *link, const char *reason)
{
	const struct fork_link_params *p = &link->params;
	char why[FORK_REASON_MAX], text[400];
	int64_t delay_us;

	snprintf(why, sizeof(why), "%s", reason); /* `reason` may live in the link */
	link->failures++;
	if (link->flushing) {
		finish_closed(link);
		return;
	}
	if (!p->reconnect || final_word(link->peer_code)
		|| (p->attempts && link->failures > p->attempts)) {
		fork_say(link->peer_code == 1000 ? FORK_LOG_VERBOSE : FORK_LOG_WARNING,
			"%s: %s; no further attempt after %u", label(link, text, sizeof(text)), why,
			link->turn);
		finish(link, why);
		return;
	}
	delay_us = back_off_us(link);
	fork_say(link->told ? FORK_LOG_DEBUG : FORK_LOG_WARNING,
		"%s: %s; trying again in %.1f s, then ever more slowly",
		label(link, text, sizeof(text)), why, delay_us / 1e6);
	link->told = true;
	set_state(link, FORK_BACKOFF);
	fork_wire_timer(link, delay_us);
}

/*!
 * \brief Try the addresses of the host one after the other, from link->address on.
 *
 * All within the one connect timeout. The next attempt begins with the next address, so that
 * one that swallows connections does not hide the others.
 */
static void try_addresses(struct fork_link *link)
{
	set_state(link, FORK_CONNECTING);
	while (link->address < link->addresses.count) {
		unsigned int which = (link->turn - 1 + link->address) % link->addresses.count;

		link->address++;
		if (!fork_wire_connect(link, link->addresses.numeric[which])) {
			return;
		}
	}
	attempt_failed(link, link->error);
}

/*! \brief On the resolver's thread. */
static void on_resolved(void *user, const struct fork_addresses *found, const char *error)
{
	struct fork_link *link = user;

	pthread_mutex_lock(&link->lock);
	link->found = *found;
	snprintf(link->resolve_error, sizeof(link->resolve_error), "%s", error);
	link->resolved = true;
	pthread_mutex_unlock(&link->lock);
	tell_news(link);
	fork_link_unref(link);
}

static void start_attempt(struct fork_link *link)
{
	struct fork_url *url = &link->params.url;
	unsigned char binary[16];

	link->turn++;
	link->address = 0;
	fork_wire_timer(link, (int64_t) link->params.connect_timeout_ms * 1000);
	if (inet_pton(AF_INET, url->host, binary) == 1 || inet_pton(AF_INET6, url->host, binary) == 1) {
		link->addresses.count = 1;
		snprintf(link->addresses.numeric[0], FORK_ADDRESS_MAX, "%.*s", FORK_ADDRESS_MAX - 1,
			url->host);
		try_addresses(link);
		return;
	}
	set_state(link, FORK_RESOLVING);
	link_ref(link);
	if (fork_resolve(url->host, on_resolved, link)) {
		fork_link_unref(link);
		attempt_failed(link, "too many name look-ups");
	}
}

/*! \brief A look-up may have ended; a late one, of an attempt given up, serves as well. */
static void take_addresses(struct fork_link *link)
{
	char error[FORK_REASON_MAX];
	bool resolved;

	pthread_mutex_lock(&link->lock);
	resolved = link->resolved;
	link->resolved = false;
	link->addresses = link->found;
	snprintf(error, sizeof(error), "cannot find the host: %.100s", link->resolve_error);
	pthread_mutex_unlock(&link->lock);
	if (!resolved) {
		return;
	}
	if (link->addresses.count) {
		try_addresses(link);
	} else {
		attempt_failed(link, error);
	}
}

/*! \brief The owner has closed: what state are we in, and what is left to do? */
static void take_closing(struct fork_link *link)
{
	link->flushing = true;
	switch (atomic_load(&link->state)) {
	case FORK_UP:
		fork_wire_timer(link, (int64_t) link->params.flush_ms * 1000);
		fork_wire_want_write(link);
		break;
	case FORK_RESOLVING:
	case FORK_CONNECTING:
		/* A short call may end before its connection is made: give it the same time. */
		fork_wire_timer(link, (int64_t) link->params.flush_ms * 1000);
		break;
	default:
		finish_closed(link);
		break;
	}
}

/*!
 * \brief Write now what has come, without asking for a turn at the socket first.
 *
 * Saves a turn of the loop for each frame. A full socket is no harm: libwebsockets keeps what
 * is left of the one frame, and from then on the link waits for its turn.
 */
static void write_by_hand(struct fork_link *link)
{
	if (!link->name_sent || link->flushing || fork_wire_pending(link)) {
		fork_wire_want_write(link);
		return;
	}
	if (fork_connection_writable(link)) {
		fork_wire_kill(link);
		fork_connection_down(link, "connection lost");
	}
}

static void handle_link(struct fork_link *link)
{
	if (atomic_load(&link->dead)) {
		return;
	}
	if (atomic_load(&link->state) == FORK_NEW) {
		if ((link->next = service.first)) {
			link->next->previous = link;
		}
		service.first = link;
		link->progress_us = fork_now_us();
		start_attempt(link);
	}
	if (atomic_load(&link->state) == FORK_RESOLVING) {
		take_addresses(link);
	}
	if (atomic_load(&link->dead)) {
		return;
	}
	if (atomic_load(&link->closing) && !link->flushing) {
		take_closing(link);
	} else if (atomic_load(&link->state) == FORK_UP) {
		write_by_hand(link);
	}
}

void fork_news_handle(bool gather)
{
	const struct timespec pause = { .tv_nsec = GATHER_NS };
	struct fork_link *link;

	if (gather && service.up > MANY_LINKS && atomic_load(&service.news)) {
		nanosleep(&pause, NULL);
	}
	link = atomic_exchange_explicit(&service.news, NULL, memory_order_acq_rel);

	while (link) {
		struct fork_link *next = link->next_news;

		/* From here on the link may be on the stack again. */
		atomic_store_explicit(&link->has_news, false, memory_order_seq_cst);
		handle_link(link);
		fork_link_unref(link);
		link = next;
	}
}

/*! \brief The server takes nothing: is it lost? */
static void check_stall(struct fork_link *link)
{
	uint64_t stall_us = (uint64_t) link->params.stall_timeout_ms * 1000;
	uint64_t now = fork_now_us();

	if (!fork_ring_waiting(&link->ring)) {
		link->progress_us = now;
	}
	if (stall_us && now - link->progress_us > stall_us) {
		fork_wire_kill(link);
		attempt_failed(link, "the server has taken no audio for too long");
		return;
	}
	fork_wire_timer(link, TICK_US);
}

void fork_timer_fired(struct fork_link *link)
{
	if (link->flushing) {
		finish_closed(link);
		return;
	}
	switch (atomic_load(&link->state)) {
	case FORK_RESOLVING:
		attempt_failed(link, "timeout looking the host up");
		break;
	case FORK_CONNECTING:
		fork_wire_kill(link);
		attempt_failed(link, "timeout connecting (no answer, or no end of the handshake)");
		break;
	case FORK_BACKOFF:
		start_attempt(link);
		break;
	case FORK_UP:
		if (link->holding) {
			link->holding = false;
			fork_wire_want_write(link);
		}
		check_stall(link);
		break;
	default:
		break;
	}
}

void fork_connection_up(struct fork_link *link)
{
	unsigned int connects = atomic_fetch_add(&link->connects, 1) + 1;
	char text[400];

	set_state(link, FORK_UP);
	link->name_sent = false;
	link->holding = false;
	link->up_us = link->progress_us = fork_now_us();
	if (connects > 1 || link->told) {
		struct fork_stats stats;

		fork_link_stats(link, &stats);
		fork_say(FORK_LOG_NOTICE, "%s: connected again, %llu ms of audio lost so far",
			label(link, text, sizeof(text)), (unsigned long long)
			((stats.dropped_us[FORK_READ] + stats.dropped_us[FORK_WRITE]) / 1000));
	} else {
		fork_say(FORK_LOG_VERBOSE, "%s: connected", label(link, text, sizeof(text)));
	}
	link->told = false;
	if (!link->flushing) {
		fork_wire_timer(link, TICK_US);
	}
	fork_wire_want_write(link);
}

void fork_connection_down(struct fork_link *link, const char *reason)
{
	if (atomic_load(&link->state) == FORK_CONNECTING
		&& link->address < link->addresses.count) {
		try_addresses(link);
		return;
	}
	if (link->flushing) {
		finish_closed(link);
		return;
	}
	if (atomic_load(&link->state) == FORK_UP && fork_now_us() - link->up_us > STABLE_US) {
		link->failures = 0;
	}
	attempt_failed(link, reason);
}

/*! \brief The next message's samples into `frame`, if one is due. */
static bool next_frame(struct fork_link *link, int16_t frame[FORK_FRAME_SAMPLES])
{
	struct fork_cell cell;

	for (;;) {
		uint64_t in = link->mixer.fifo[FORK_READ].last_us;
		uint64_t out = link->mixer.fifo[FORK_WRITE].last_us;

		if (fork_mixer_pull(&link->mixer, in > out ? in : out, frame)) {
			return true;
		}
		if (!fork_ring_pop(&link->ring, &cell)) {
			break;
		}
		fork_mixer_push(&link->mixer, &cell);
	}
	if (link->flushing) {
		return fork_mixer_drain(&link->mixer, frame);
	}
	return fork_mixer_waits(&link->mixer)
		&& fork_mixer_pull(&link->mixer, fork_now_us(), frame);
}

static int send_name(struct fork_link *link)
{
	size_t length;

	pthread_mutex_lock(&link->lock);
	length = strlen(link->name);
	memcpy(link->message + LWS_PRE, link->name, length);
	pthread_mutex_unlock(&link->lock);
	link->name_sent = true;
	return fork_wire_write(link, length, true);
}

static int send_frame(struct fork_link *link, const int16_t frame[FORK_FRAME_SAMPLES])
{
	unsigned char *bytes = link->message + LWS_PRE;

	for (int i = 0; i < FORK_FRAME_SAMPLES; i++) {
		bytes[2 * i] = (unsigned char) ((uint16_t) frame[i] & 0xff);
		bytes[2 * i + 1] = (unsigned char) ((uint16_t) frame[i] >> 8);
	}
	if (fork_wire_write(link, FORK_MESSAGE_BYTES, false)) {
		return -1;
	}
	atomic_fetch_add_explicit(&link->frames_sent, 1, memory_order_relaxed);
	return 0;
}

/*! \brief Nothing is left to be sent now. */
static int went_idle(struct fork_link *link)
{
	if (link->flushing) {
		set_state(link, FORK_CLOSING);
		fork_wire_timer(link, LINGER_US);
		fork_wire_say_goodbye(link);
		return -1;
	}
	if (fork_mixer_waits(&link->mixer) && !link->holding) {
		link->holding = true;
		fork_wire_timer(link, FORK_FRAME_US);
	}
	return 0;
}

int fork_connection_writable(struct fork_link *link)
{
	int16_t frame[FORK_FRAME_SAMPLES];

	if (atomic_load(&link->state) != FORK_UP) {
		return 0;
	}
	link->progress_us = fork_now_us();
	if (!link->name_sent) {
		if (send_name(link)) {
			return -1;
		}
		fork_wire_want_write(link);
		return 0;
	}
	for (int sent = 0; next_frame(link, frame); sent++) {
		if (send_frame(link, frame)) {
			return -1;
		}
		if (!fork_ring_waiting(&link->ring) && !link->flushing
			&& !fork_mixer_waits(&link->mixer)) {
			return 0;
		}
		if (sent == BURST_FRAMES || fork_wire_choked(link)) {
			fork_wire_want_write(link);
			return 0;
		}
	}
	return went_idle(link);
}

/* ---- start and stop: the owner's thread ---- */

int fork_service_start(const struct fork_service_config *config)
{
	service.config = *config;
	atomic_store(&service.news, NULL);
	service.first = NULL;
	service.up = 0;
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
