/*
 * asterisk-dialog: what a link is made of.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief Private to the files of the WebSocket's side.
 *
 * fork_socket.c  links as their owners see them, and the way to the service thread
 * fork_life.c    a link's states
 * fork_send.c    what is sent next
 * fork_receive.c what the server says
 * fork_event.c   what the owner is told
 * fork_guard.c   what the server orders for the keys
 * fork_tell.c    the JSON messages, and those that wait to be sent
 * fork_wire.c    libwebsockets, and the frames sent past it (fork_frame.c)
 */

#ifndef FORK_LINK_H
#define FORK_LINK_H

#include <libwebsockets.h>
#include <pthread.h>

#include "fork_audio.h"
#include "fork_guard.h"
#include "fork_message.h"
#include "fork_play.h"
#include "fork_resolve.h"
#include "fork_socket.h"

/*! Bytes of JSON messages that may wait to be sent; each has two bytes of length before it. */
#define FORK_REPLIES_BYTES 16384

/*! \brief What has been told of the stream; without json it stays as it is. */
struct fork_told {
	uint64_t gap_us[FORK_DIRECTIONS]; /*!< audio lost that the messages `dropped` account for */
	uint64_t gap_ms;                  /*!< what they have told */
	bool hangup, stop;                /*!< on this connection */
	bool digit_placed;                /*!< the oldest key's place in the stream is known: */
	uint64_t digit_at[FORK_DIRECTIONS]; /*!< samples of each direction before it */
	uint64_t limit_us;                /*!< when a guard's limit was last logged */
	/* `error` messages in a second */
	uint64_t errors_since_us;
	unsigned int errors;
};

/*!
 * \brief A link.
 *
 * References: one of the opener (fork_link_open), one of the service thread until the link
 * is DONE, one while it is on the stack of links with news, one per look-up under way.
 *
 * Order of locks: `lock` is a leaf, taken alone and for a copy of a few bytes only; the
 * channel's thread takes none, but for those of the prompts and of the guard.
 */
struct fork_link {
	/* Fixed after fork_link_open(). */
	struct fork_link_params params;
	void *user;

	/* Any thread. */
	_Atomic int refs;
	_Atomic bool has_news;        /*!< is on the stack */
	struct fork_link *next_news;  /*!< owned by whoever set has_news */
	_Atomic bool muted[FORK_DIRECTIONS];
	_Atomic bool paused;          /*!< nothing is captured */
	_Atomic int hangup_cause;     /*!< -1: the channel has not been hung up */
	_Atomic bool closing;         /*!< no more audio will come */
	_Atomic bool dead;            /*!< DONE: nobody takes audio any more */
	_Atomic int state;            /*!< enum fork_state; written by the service thread only */
	_Atomic uint64_t captured_us[FORK_DIRECTIONS];
	_Atomic uint64_t frames_sent, messages_sent;
	_Atomic uint64_t sent_us[FORK_DIRECTIONS];
	_Atomic unsigned int connects, bad_messages, replies_lost;
	_Atomic unsigned int failed, overruns, plays;
	_Atomic uint64_t bytes_sent;
	_Atomic uint64_t overrun_told_us, overrun_next_us; /*!< of the ring's drops; the next event */
	struct fork_ring ring;
	struct fork_guard guard;      /*!< keys on their way to the server, and what it does to them */
	struct fork_play *play;       /*!< the server's prompts, with a lock of their own; NULL without json */

	pthread_mutex_t lock;         /*!< guards the next five */
	char name[FORK_NAME_MAX];
	char close_reason[FORK_REASON_MAX];
	struct fork_addresses found;  /*!< what the look-up has brought */
	char resolve_error[FORK_REASON_MAX];
	bool resolved;                /*!< it is there and was not taken yet */

	/* Service thread only. */
	struct fork_link *next, *previous;
	struct lws *wsi;              /*!< NULL unless CONNECTING, UP or CLOSING */
	lws_sorted_usec_list_t timer; /*!< one timer; what it means depends on the state */
	struct fork_mixer mixer;
	bool name_sent;
	bool holding;                 /*!< fork_pulse() is to look at a frame that the mixer holds back */
	bool flushing;                /*!< closing was seen */
	struct fork_addresses addresses; /*!< of this attempt, and which of them is tried */
	unsigned int address;
	unsigned int turn;            /*!< number of the connection attempt, of all */
	unsigned int failures;        /*!< attempts in a row that came to nothing */
	bool told;                    /*!< this outage has been logged */
	bool connected;               /*!< CONNECTED was told, and DISCONNECTED not yet */
	uint64_t up_us;               /*!< when this connection was made */
	uint64_t progress_us;         /*!< when the server last took something, or nothing waited */
	int peer_code;                /*!< the server's close code, 0: none */
	char error[FORK_REASON_MAX];
	struct fork_told told_of;
	unsigned char *replies;       /*!< FORK_REPLIES_BYTES; NULL without json */
	size_t replies_used;
	char *inbox;                  /*!< FORK_TEXT_MAX, a text message as far as it has come; or NULL */
	size_t inbox_used;            /*!< more than that: it is too long */
	int16_t *gathered;            /*!< frames of the next audio message */
	unsigned int frames_gathered;
	size_t message_bytes;         /*!< of an audio message */
	unsigned char *message;       /*!< LWS_PRE and room for the longest */
};

/* fork_socket.c, any thread */
void fork_link_ref(struct fork_link *link);
/*! \brief Put the link on the stack of those with news. */
void fork_tell_news(struct fork_link *link);
uint64_t fork_now_us(void);

/* fork_socket.c, service thread only */
/*!
 * \brief Handle the news; with many links, after waiting for the clock's next stroke.
 * \retval false the thread may sleep now: the next news will wake it
 */
bool fork_news_by_clock(void);
void fork_say(enum fork_log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/*! \brief The link as an admin knows it. \return text */
const char *fork_label(struct fork_link *link, char *text, size_t size);
/*! \brief The owner's last call about the link. */
void fork_tell_ended(struct fork_link *link, const char *reason, const struct fork_stats *stats);
void fork_tell_event(struct fork_link *link, enum fork_event what, const char *reason, int64_t ms);
/*! \brief The server's `text`. */
void fork_tell_said(struct fork_link *link, const char *text);

/* fork_event.c */
/*! \brief Whether the ring has dropped audio of which the owner may be told now. Any thread. */
bool fork_overrun_due(struct fork_link *link, uint64_t now_us);

/* fork_event.c, service thread only */
void fork_note_connected(struct fork_link *link);
/*! \brief If there was a connection. \param retry_us to the next attempt; negative: none */
void fork_note_disconnected(struct fork_link *link, const char *reason, int64_t retry_us);
/*! \brief If fork_overrun_due(). */
void fork_note_overrun(struct fork_link *link);

/* fork_life.c, service thread only */
unsigned int fork_links_up(void);
void fork_set_state(struct fork_link *link, enum fork_state state);
/*! \brief It was opened or closed, audio has come, or a look-up has ended. */
void fork_handle_news(struct fork_link *link);
void fork_timer_fired(struct fork_link *link);
/*! \brief Frames are held back: must they still be? */
void fork_pulse(void);
void fork_connection_up(struct fork_link *link);
void fork_connection_down(struct fork_link *link, const char *reason);

/* fork_send.c, service thread only */
/*! \retval -1 close the connection */
int fork_connection_writable(struct fork_link *link);

/* fork_tell.c, service thread only */
/*! \brief Write `start`. \retval -1 the connection is broken */
int fork_send_start(struct fork_link *link);
/*!
 * \brief Write one message that must go before the next audio, if there is one.
 *
 * Lost audio is told first, then a hangup, what is queued, and keys whose place has come.
 * \retval 1 one was written \retval 0 there is none \retval -1 the connection is broken
 */
int fork_send_told(struct fork_link *link);
/*! \brief Write `stop`, once all else has been written. \retval -1 the connection is broken */
int fork_send_stop(struct fork_link *link);
/*! \brief The oldest key stands before the next cell of the ring: note it. \return it was news */
bool fork_digit_place(struct fork_link *link);
/*! \brief Whether the oldest key's place has come. */
bool fork_digit_due(const struct fork_link *link);
/*! \brief Whether a message waits, or a key, be its place still to come. */
bool fork_tell_waits(struct fork_link *link);
/*! \brief Queue a JSON message, to be sent before the next audio; too many are counted and lost. */
void fork_reply(struct fork_link *link, const char *text, size_t length);
/*! \brief Queue an `error` message and count it. */
void fork_reply_error(struct fork_link *link, const char *about, const char *why);
/*! \brief Queue a `counters` message. */
void fork_reply_counters(struct fork_link *link);

/* fork_receive.c, service thread only; only for links with params.json */
/*! \brief Part of a message has come from the server. */
void fork_receive(struct fork_link *link, const void *bytes, size_t length, bool binary, bool final);
/*! \brief Queue as messages what the prompts have to tell. */
void fork_tell_plays(struct fork_link *link);
/*! \brief The connection is gone: prompts without an end are lost. */
void fork_receive_lost(struct fork_link *link);

/* fork_wire.c */
int fork_wire_start(void);
/*! \brief From any thread: make the service thread look for news. */
void fork_wire_wake(void);
/*! \brief Let the service thread end; it must have no links. Waits for it. */
void fork_wire_stop(void);

/* fork_wire.c, service thread only */
/*! \param us from now; negative: never */
void fork_wire_timer(struct fork_link *link, int64_t us);
/*! \brief Call fork_pulse() in 20 ms. */
void fork_wire_pulse(void);
/*! \retval 0 under way \retval -1 failed at once, link->error says why */
int fork_wire_connect(struct fork_link *link, const char *address);
void fork_wire_want_write(struct fork_link *link);
/*! \brief Go on reading from the server, or let it wait, if only after some more has come. */
void fork_wire_read(struct fork_link *link, bool on);
/*! \brief Write link->message. \retval -1 the connection is broken */
int fork_wire_write(struct fork_link *link, size_t bytes, bool text);
/*! \brief Whether the next write would have to wait: asks the kernel. */
bool fork_wire_choked(struct fork_link *link);
/*! \brief Whether part of the last write still waits: then nothing may be written by hand. */
bool fork_wire_pending(struct fork_link *link);
/*! \brief Give a status for the close frame; return -1 from the writable call after it. */
void fork_wire_say_goodbye(struct fork_link *link);
/*! \brief Drop the connection without a word; no call about it comes after this. */
void fork_wire_kill(struct fork_link *link);

#endif /* FORK_LINK_H */
