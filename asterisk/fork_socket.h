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
 * \brief Links: audio in on a channel's thread, WebSocket messages out on the service thread.
 *
 * No Asterisk header on this side: it is built and tested without Asterisk.
 *
 * Threads
 * - A channel's thread calls fork_link_push() and fork_link_close(); neither blocks,
 *   allocates, logs or touches the network. Pushes to one link must not run in parallel.
 * - One service thread runs libwebsockets and everything marked so in the sources.
 * - The callbacks `log` and `ended` run on the service thread and must not wait for a
 *   channel: all forks would wait with them.
 */

#ifndef FORK_SOCKET_H
#define FORK_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fork_ring.h"
#include "fork_url.h"

/*! Bytes of one audio message: 20 ms of signed linear, 16 bit, 8 kHz. */
#define FORK_MESSAGE_BYTES 320
#define FORK_NAME_MAX 128
#define FORK_REASON_MAX 160

enum fork_log_level {
	FORK_LOG_DEBUG,
	FORK_LOG_VERBOSE,
	FORK_LOG_NOTICE,
	FORK_LOG_WARNING,
};

enum fork_state {
	FORK_NEW,
	FORK_RESOLVING,
	FORK_CONNECTING,
	FORK_UP,
	FORK_BACKOFF,
	FORK_CLOSING,
	FORK_DONE,
};

/*! \brief All a link needs to know; copied by fork_link_open(). */
struct fork_link_params {
	char id[40];
	char name[FORK_NAME_MAX];   /*!< first message of each connection */
	struct fork_url url;
	bool read, write;           /*!< directions wanted; both: mixed */
	int read_gain, write_gain;
	char tls_ca[256];           /*!< PEM file added to the system's authorities, may be empty */
	char tls_cert[256];         /*!< client certificate chain, may be empty */
	char tls_key[256];
	unsigned int rate_hz;       /*!< the channel's rate: the ring is sized for it */
	unsigned int ring_ms;
	unsigned int connect_timeout_ms; /*!< look-up, TCP, TLS and handshake together */
	unsigned int stall_timeout_ms;   /*!< a server that takes nothing for so long is lost; 0: wait */
	unsigned int flush_ms;      /*!< at the end, time to send what is still in the ring */
	bool reconnect;
	unsigned int attempts;      /*!< connections tried in a row; 0: until the end of the call */
	unsigned int delay_ms;      /*!< first back-off delay, doubled each time */
	unsigned int delay_max_ms;
};

struct fork_stats {
	enum fork_state state;
	uint64_t captured_us[FORK_DIRECTIONS];
	/*! Audio that was never sent: pushed out of the ring, or left at the end. */
	uint64_t dropped_us[FORK_DIRECTIONS];
	uint64_t frames_sent;
	uint64_t waiting_cells;
	unsigned int connects;      /*!< connections made: 1 + reconnects */
};

struct fork_link;

struct fork_service_config {
	/*! One line, no newline at its end. */
	void (*log)(enum fork_log_level level, const char *text);
	/*! A link has ended; once for each link, then `user` is the link's no longer. */
	void (*ended)(void *user, const char *reason, const struct fork_stats *stats);
};

int fork_service_start(const struct fork_service_config *config);
/*!
 * \brief Stop the threads. All links must have been closed.
 * \retval 0 stopped, nothing of this side runs any more
 * \retval -1 links or a look-up are still at work after `timeout_ms`; it goes on serving
 */
int fork_service_stop(unsigned int timeout_ms);

/*! \return a link holding one reference for the caller, NULL when out of memory */
struct fork_link *fork_link_open(const struct fork_link_params *params, void *user);
void fork_link_unref(struct fork_link *link);

/*! \retval false the link has ended: there is no use in pushing more */
bool fork_link_push(struct fork_link *link, enum fork_direction direction,
	const int16_t *samples, size_t count, uint32_t rate_hz);

/*! \brief A muted direction goes on in time, as silence. */
void fork_link_mute(struct fork_link *link, enum fork_direction direction, bool muted);

/*! \brief The channel is called otherwise now; told to the server at the next connection. */
void fork_link_rename(struct fork_link *link, const char *name);

/*! \brief No more audio: send what is there (at most flush_ms), close, end. */
void fork_link_close(struct fork_link *link, const char *reason);

void fork_link_stats(struct fork_link *link, struct fork_stats *stats);
const char *fork_state_name(enum fork_state state);

#endif /* FORK_SOCKET_H */
