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
 * - All callbacks run on the service thread and must not wait for a channel: all forks would
 *   wait with them.
 */

#ifndef FORK_SOCKET_H
#define FORK_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fork_keys.h"
#include "fork_ring.h"
#include "fork_url.h"
#include "fork_wish.h"

/*! Bytes of an audio message, unless asked otherwise: 20 ms of signed linear, 16 bit, 8 kHz. */
#define FORK_MESSAGE_BYTES 320
#define FORK_MESSAGE_MS_MAX 200
#define FORK_NAME_MAX 128
#define FORK_HEADER_NAME_MAX 64
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

/*!
 * \brief What its owner is told of a link.
 *
 * OPENED comes first, `ended` last, each once. Between them CONNECTED and DISCONNECTED take turns,
 * CONNECTED first; none is left without its DISCONNECTED. OVERRUN may come at any time.
 */
enum fork_event {
	FORK_EVENT_OPENED,
	FORK_EVENT_CONNECTED,    /*!< stats->connects says which connection it is */
	FORK_EVENT_DISCONNECTED, /*!< `ms` to the next attempt; negative: there is none */
	FORK_EVENT_OVERRUN,      /*!< the ring dropped `ms` since the last; once a second at most */
};

#define FORK_VARIABLES_MAX 16

/*! \brief What the message `start` tells of the call: as it was when the fork began. */
struct fork_facts {
	char uniqueid[150];
	char linkedid[150];
	char caller_number[80];
	char caller_name[80];
	char called[80];
	unsigned int variables;
	struct {
		char name[80];
		char value[257];
	} variable[FORK_VARIABLES_MAX];
};

/*! \brief All a link needs to know; copied by fork_link_open(), with what its pointers show. */
struct fork_link_params {
	char id[40];
	char name[FORK_NAME_MAX];   /*!< first message of each connection */
	struct fork_url url;
	const char *headers;        /*!< of the request, "Name: value\n" each; secret; may be NULL */
	bool read, write;           /*!< directions wanted; both: mixed, or side by side */
	bool stereo;                /*!< both: left the caller's voice, right what the caller hears */
	int read_gain, write_gain;
	unsigned int rate_hz_out;   /*!< of the audio sent: 8000 or 16000 */
	unsigned int message_ms;    /*!< length of an audio message: 20, 40, … 200 */
	bool json;                  /*!< messages in JSON, both ways */
	bool keys;                  /*!< with json: the channel's keys are seen, so they can be guarded */
	const struct fork_facts *facts; /*!< with json; may be NULL */
	unsigned int play_buffer_ms;    /*!< with json: audio kept that waits to be played */
	char tls_ca[256];           /*!< PEM file added to the system's authorities, may be empty */
	char tls_cert[256];         /*!< client certificate chain, may be empty */
	char tls_key[256];
	char tls_name[256];         /*!< whom to ask for (SNI, Host) and to verify; empty: the host */
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
	uint64_t sent_us[FORK_DIRECTIONS]; /*!< what of each direction is in the messages sent */
	uint64_t frames_sent;       /*!< 20 ms each; the silence that fills the last message is none */
	uint64_t messages_sent;     /*!< of audio */
	uint64_t waiting_cells;
	unsigned int connects;      /*!< connections made: 1 + reconnects */
	unsigned int digits;        /*!< keys taken, to be told */
	unsigned int digits_lost;   /*!< keys that came while too many waited */
	unsigned int bad_messages;  /*!< of the server */
	unsigned int replies_lost;  /*!< messages to the server that found too many waiting */
	uint64_t bytes_sent;        /*!< of messages, of audio and others */
	unsigned int failures;      /*!< attempts to connect that failed, and connections lost */
	unsigned int overruns;      /*!< events of that name */
	unsigned int plays;         /*!< prompts that have begun to be played */
	uint64_t played_ms;
};

struct fork_link;
struct fork_play;

struct fork_service_config {
	/*! One line, no newline at its end. */
	void (*log)(enum fork_log_level level, const char *text);
	/*! A link has ended; once for each link, then `user` is the link's no longer. */
	void (*ended)(void *user, const char *reason, const struct fork_stats *stats);
	/*! May be NULL. \param reason of DISCONNECTED, else empty \param ms see enum fork_event */
	void (*event)(void *user, enum fork_event what, const char *reason, int64_t ms,
		const struct fork_stats *stats);
	/*! The server's `text`: valid UTF-8, any character but U+0000. May be NULL. */
	void (*said)(void *user, const char *text);
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

/*! \brief Switched off, nothing is captured: the place in the stream stands still. Any thread. */
void fork_link_stream(struct fork_link *link, bool on);

/*!
 * \brief A key, told in its place between the audio; without json it is passed over.
 *
 * Never waits. One thread at a time, as fork_link_push(): the channel's, or under its lock.
 */
void fork_link_digit(struct fork_link *link, char digit, unsigned int duration_ms,
	enum fork_key_verdict verdict);

/*!
 * \brief What the server wishes for the keys; whoever judges them looks before each.
 *
 * One load, where there is none. \return the oldest wish's number, 0: there is none
 */
uint64_t fork_link_wishes(struct fork_link *link);
/*! \brief Take the oldest wish; the channel's lock is held. \retval false there is none */
bool fork_link_take_wish(struct fork_link *link, struct fork_wish *wish);
/*! \brief Somebody else has set the mode after the wish of this number. */
void fork_link_guard_over(struct fork_link *link, uint64_t number);

/*! \brief The channel is gone: tell why, then as fork_link_close(). \param cause Q.850, or 0 */
void fork_link_hangup(struct fork_link *link, int cause);

/*! \brief The channel is called otherwise now; told to the server at the next connection. */
void fork_link_rename(struct fork_link *link, const char *name);

/*! \brief No more audio: send what is there (at most flush_ms), close, end. */
void fork_link_close(struct fork_link *link, const char *reason);

/*! \brief The server's prompts (fork_play.h), as long as the link is held; NULL without json. */
struct fork_play *fork_link_play(struct fork_link *link);
/*!
 * \brief Mix the server's whispers, if there are any, into what is about to be heard.
 *
 * On the thread that writes to the channel; never waits, allocates or makes a system call.
 * \return whether the samples were changed
 */
bool fork_link_whisper(struct fork_link *link, int16_t *samples, size_t count, uint32_t rate_hz);
/*! \brief To be called after samples were taken, or a prompt was let go of. Never waits. */
void fork_link_played(struct fork_link *link);
/*! \brief As the server's `clear`; any thread. \param play empty: all \retval false without json */
bool fork_link_play_clear(struct fork_link *link, const char *play);

void fork_link_stats(struct fork_link *link, struct fork_stats *stats);
const char *fork_state_name(enum fork_state state);

#endif /* FORK_SOCKET_H */
