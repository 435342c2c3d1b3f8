/*
 * asterisk-dialog: app_audiofork, Asterisk's side.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief Shared by the files of app_audiofork that speak to Asterisk.
 *
 * app_audiofork.c      the dialplan applications, load, unload, reload
 * audiofork_start.c    a request checked, turned into what the link needs, and started
 * audiofork_capture.c  forks: hook, datastore, beginning and end
 * audiofork_registry.c those that there are: found, stopped, summed up
 * audiofork_keys.c     guards: keys seen, blocked, kept (audiofork_guard.h)
 * audiofork_wish.c     what the forks' servers wish for them
 * func_dtmf_guard.c    the dialplan function DTMF_GUARD()
 * audiofork_post.c     the post command
 * audiofork_events.c   AMI events, counters
 * audiofork_manage.c   AMI actions
 * audiofork_cli.c      CLI
 * audiofork_play.c     the application AudioForkPlay
 * audiofork_conf.c     audiofork.conf
 * audiofork_servers.c  its sections for servers: authorization, TLS
 *
 * Code that depends on Asterisk's version belongs here and nowhere else.
 */

#ifndef AUDIOFORK_H
#define AUDIOFORK_H

#include "asterisk.h"

#include "asterisk/astobj2.h"
#include "asterisk/channel.h"
#include "asterisk/uuid.h"

#include "fork_keys.h"
#include "fork_options.h"
#include "fork_socket.h"

/* ---- audiofork.conf ---- */

#define AUDIOFORK_ALLOW_MAX 64

/*! Bytes of all the headers for a server, with "Name: " and an end of line each. */
#define AUDIOFORK_HEADERS_MAX 6000

/*! \brief A section of audiofork.conf: for URLs under `url`. */
struct audiofork_server {
	struct audiofork_server *next;
	char name[80];
	char url[FORK_URL_MAX];
	char tls_ca_file[256];
	char tls_cert_file[256];
	char tls_key_file[256];
	char tls_server_name[256];
	char headers[AUDIOFORK_HEADERS_MAX]; /*!< "Name: value\n" each; secret */
};

/*! \brief One reading of audiofork.conf; never changed, only replaced. */
struct audiofork_conf {
	int dmarenin_names;
	int post_command;
	unsigned int ring_ms;
	unsigned int connect_timeout_ms;
	unsigned int stall_timeout_ms;
	unsigned int flush_ms;
	unsigned int play_buffer_ms;
	int reconnect;
	unsigned int reconnect_attempts;
	unsigned int reconnect_delay_ms;
	unsigned int reconnect_max_delay_ms;
	char tls_ca_file[256];
	unsigned int allow_count;
	char allow[AUDIOFORK_ALLOW_MAX][FORK_URL_MAX];
	struct audiofork_server *servers;
};

/*! \brief Read the file. \retval 0 in force \retval -1 errors were logged, the old one stays */
int audiofork_conf_load(void);
void audiofork_conf_unload(void);
/*! \return the configuration with a reference for the caller */
struct audiofork_conf *audiofork_conf_get(void);

/*! \brief Read a section. \return how many errors were logged */
int audiofork_server_add(struct audiofork_conf *conf, const char *name,
	const struct ast_variable *first);
void audiofork_servers_free(struct audiofork_conf *conf);
/*! \return the section whose url covers most of this one's path; NULL: none */
const struct audiofork_server *audiofork_server_find(const struct audiofork_conf *conf,
	const struct fork_url *url);

/* ---- forks ---- */

enum audiofork_result {
	AUDIOFORK_STARTED,
	AUDIOFORK_BADARGS,  /*!< URL or options make no sense */
	AUDIOFORK_REFUSED,  /*!< audiofork.conf does not allow it */
	AUDIOFORK_FAILED,   /*!< the channel is gone, no memory, module unloading */
};

struct audiofork_request {
	const char *url;
	const char *options;       /*!< may be empty or NULL */
	const char *post_command;  /*!< may be empty or NULL */
	int in_dialplan;           /*!< on the channel's own thread: beeps can be played */
};

struct audiofork_started {
	char id[AST_UUID_STR_LEN];
	char url[FORK_URL_MAX];    /*!< without its query */
	char why[256];             /*!< when not started: a sentence for the log */
};

struct audiofork;

int audiofork_capture_init(void);
/*!
 * \brief Detach all forks and stop the service.
 * \retval 0 nothing of the module is in use any more
 * \retval -1 something is, after all the waiting; the module goes on working
 */
int audiofork_capture_shutdown(void);

/*!
 * \brief Put a fork on the channel, which must not be locked, and open its link.
 * \param id the new fork's
 * \return NULL: done; or why not, in words
 */
const char *audiofork_capture_start(struct ast_channel *chan, const struct fork_options *options,
	const char *post_command, struct fork_link_params *params, char id[AST_UUID_STR_LEN]);

/*!
 * \brief What the message `start` tells of the channel, which is locked.
 * \return to be freed; NULL: the options want no such message, or no memory
 */
struct fork_facts *audiofork_facts(struct ast_channel *chan, const struct fork_options *options);

/*! \brief A beep every so many seconds. \param beep_id for ast_beep_stop(), empty: there is none */
void audiofork_beep_start(struct ast_channel *chan, unsigned int seconds, const char *id,
	char *beep_id, size_t beep_id_size);

/*! \brief Run it on a thread of its own; the module cannot be unloaded meanwhile. */
void audiofork_post_run(const char *command, const char *id, const char *channel);

/*! \brief Start a fork. The channel must not be locked. */
enum audiofork_result audiofork_start(struct ast_channel *chan,
	const struct audiofork_request *request, struct audiofork_started *started);

/*!
 * \brief Stop the fork `id`, or all forks of the channel.
 * \param id may be empty or NULL: all
 * \param beep set to 1 if one of them asked for a beep at its end
 * \return how many
 */
int audiofork_stop(struct ast_channel *chan, const char *id, const char *reason, int *beep);

/*! \brief Tell a key to the servers of all forks of the channel, which is locked. */
void audiofork_digit(struct ast_channel *chan, char digit, unsigned int duration_ms,
	enum fork_key_verdict verdict);

/*! \brief Stop the fork `id`, wherever it is; as audiofork_stop(). */
int audiofork_stop_id(const char *id, const char *reason, int *beep);

/*!
 * \brief Do something to the forks at work that have this id, or are on this channel, or both.
 * \param channel,id each may be empty or NULL: any
 * \param act is called without a lock
 * \return how many
 */
int audiofork_apply(const char *channel, const char *id,
	void (*act)(struct fork_link *link, void *user), void *user);

/*! \brief Whom an event or a list speaks of: a copy. */
struct audiofork_who {
	char id[AST_UUID_STR_LEN];
	char channel[AST_CHANNEL_NAME];
	char uniqueid[AST_MAX_UNIQUEID];
	char linkedid[AST_MAX_UNIQUEID];
	char url[FORK_URL_MAX];    /*!< without its query */
	const char *direction;
};

/*! \brief Call `each` for all forks, or those with this channel or id. \return how many */
int audiofork_each(const char *channel_or_id, void (*each)(const struct audiofork_who *who,
	const struct fork_stats *stats, void *user), void *user);

/*! \brief Sums over all forks since the module was loaded, those at work included. */
struct audiofork_totals {
	unsigned long long forks;      /*!< ever */
	unsigned long long forks_now;
	struct fork_stats stats;       /*!< sums; the state means nothing */
};

void audiofork_totals(struct audiofork_totals *totals);

const char *audiofork_result_name(enum audiofork_result result);

/* ---- keys ---- */

int audiofork_keys_init(void);
/*!
 * \brief Take the guards off all channels: their keys are open then.
 * \retval -1 one could not be taken off, after all the waiting; new ones may come
 */
int audiofork_keys_shutdown(void);

/*!
 * \brief Be told about the channel's keys by audiofork_digit(), with or without DTMF_GUARD.
 *
 * Counted: each success wants its audiofork_keys_unwatch(), unless the channel is hung up. The
 * count goes with the forks to another channel. The channel may be locked, no other lock held.
 * Whoever is told may guard the keys, too: fork_link_take_wish().
 *
 * \retval -1 no memory, or the channel is being hung up
 */
int audiofork_keys_watch(struct ast_channel *chan);
/*! \brief No more; a mode that its link has set is open then. \param link may be NULL */
void audiofork_keys_unwatch(struct ast_channel *chan, const struct fork_link *link);

/*! \brief AudioForkPlay(fork[,options]) */
int audiofork_play_exec(struct ast_channel *chan, const char *data);

/* ---- AMI events, on the service thread ---- */

/*! \brief AudioForkStart, Connected, Disconnected or Overrun; `ms` as in fork_socket.h. */
void audiofork_event(const struct audiofork_who *who, enum fork_event what, const char *reason,
	int64_t ms, const struct fork_stats *stats);
void audiofork_event_stop(const struct audiofork_who *who, const char *reason,
	const struct fork_stats *stats);

/*! \brief How many AudioForkText a fork has raised lately; all zero is a good start. */
struct audiofork_texts {
	struct timeval since;
	unsigned int count;
};

/*! \brief AudioForkText; more than AUDIOFORK_TEXTS_MAX in a second are passed over, and logged. */
void audiofork_event_text(const struct audiofork_who *who, struct audiofork_texts *texts,
	const char *text);

#define AUDIOFORK_TEXTS_MAX 50

/*! \brief The counters of a fork, or their sums, each as "<before><Name>: <number><after>". */
char *audiofork_counters(const struct fork_stats *stats, const char *before, const char *after,
	char *text, size_t size);
#define AUDIOFORK_COUNTERS_SIZE 1024
void audiofork_add_stats(struct fork_stats *sum, const struct fork_stats *stats);

/*! \brief CPU time that the service thread has used; negative: not known. Any thread. */
double audiofork_service_cpu_s(void);

/* ---- AMI and CLI ---- */

int audiofork_manage_init(void);
void audiofork_manage_shutdown(void);
int audiofork_cli_init(void);
void audiofork_cli_shutdown(void);

#endif /* AUDIOFORK_H */
