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
 * fork_wire.c    libwebsockets
 */

#ifndef FORK_LINK_H
#define FORK_LINK_H

#include <libwebsockets.h>
#include <pthread.h>

#include "fork_audio.h"
#include "fork_resolve.h"
#include "fork_socket.h"

/*!
 * \brief A link.
 *
 * References: one of the opener (fork_link_open), one of the service thread until the link
 * is DONE, one while it is on the stack of links with news, one per look-up under way.
 *
 * Order of locks: `lock` is a leaf, taken alone and for a copy of a few bytes only; the
 * channel's thread takes none.
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
	_Atomic bool closing;         /*!< no more audio will come */
	_Atomic bool dead;            /*!< DONE: nobody takes audio any more */
	_Atomic int state;            /*!< enum fork_state; written by the service thread only */
	_Atomic uint64_t captured_us[FORK_DIRECTIONS];
	_Atomic uint64_t frames_sent;
	_Atomic unsigned int connects;
	struct fork_ring ring;

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
	bool holding;                 /*!< the timer is set for a frame that the mixer holds back */
	bool flushing;                /*!< closing was seen */
	struct fork_addresses addresses; /*!< of this attempt, and which of them is tried */
	unsigned int address;
	unsigned int turn;            /*!< number of the connection attempt, of all */
	unsigned int failures;        /*!< attempts in a row that came to nothing */
	bool told;                    /*!< this outage has been logged */
	uint64_t up_us;               /*!< when this connection was made */
	uint64_t progress_us;         /*!< when the server last took something, or nothing waited */
	int peer_code;                /*!< the server's close code, 0: none */
	char error[FORK_REASON_MAX];
	uint64_t unsent_us[FORK_DIRECTIONS];
	unsigned char message[LWS_PRE + FORK_MESSAGE_BYTES];
};

/* fork_socket.c, any thread */
void fork_link_ref(struct fork_link *link);
/*! \brief Put the link on the stack of those with news. */
void fork_tell_news(struct fork_link *link);
uint64_t fork_now_us(void);

/* fork_socket.c, service thread only */
/*! \param gather wait for the news of other links, if there are many */
void fork_news_handle(bool gather);
void fork_say(enum fork_log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/*! \brief The link as an admin knows it. \return text */
const char *fork_label(struct fork_link *link, char *text, size_t size);
/*! \brief The owner's last call about the link. */
void fork_tell_ended(struct fork_link *link, const char *reason, const struct fork_stats *stats);

/* fork_life.c, service thread only */
unsigned int fork_links_up(void);
void fork_set_state(struct fork_link *link, enum fork_state state);
/*! \brief It was opened or closed, audio has come, or a look-up has ended. */
void fork_handle_news(struct fork_link *link);
void fork_timer_fired(struct fork_link *link);
void fork_connection_up(struct fork_link *link);
void fork_connection_down(struct fork_link *link, const char *reason);

/* fork_send.c, service thread only */
/*! \retval -1 close the connection */
int fork_connection_writable(struct fork_link *link);

/* fork_wire.c */
int fork_wire_start(void);
/*! \brief From any thread: make the service thread look for news. */
void fork_wire_wake(void);
/*! \brief Let the service thread end; it must have no links. Waits for it. */
void fork_wire_stop(void);

/* fork_wire.c, service thread only */
/*! \param us from now; negative: never */
void fork_wire_timer(struct fork_link *link, int64_t us);
/*! \retval 0 under way \retval -1 failed at once, link->error says why */
int fork_wire_connect(struct fork_link *link, const char *address);
void fork_wire_want_write(struct fork_link *link);
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
