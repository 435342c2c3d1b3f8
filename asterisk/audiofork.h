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
 * audiofork_capture.c  forks: hook, datastore, registry
 * audiofork_post.c     the post command
 * audiofork_manage.c   AMI actions and CLI
 * audiofork_conf.c     audiofork.conf
 *
 * Code that depends on Asterisk's version belongs here and nowhere else.
 */

#ifndef AUDIOFORK_H
#define AUDIOFORK_H

#include "asterisk.h"

#include "asterisk/astobj2.h"
#include "asterisk/channel.h"
#include "asterisk/uuid.h"

#include "fork_options.h"
#include "fork_socket.h"

/* ---- audiofork.conf ---- */

#define AUDIOFORK_ALLOW_MAX 64

/*! \brief One reading of audiofork.conf; never changed, only replaced. */
struct audiofork_conf {
	int dmarenin_names;
	int post_command;
	unsigned int ring_ms;
	unsigned int connect_timeout_ms;
	unsigned int stall_timeout_ms;
	unsigned int flush_ms;
	int reconnect;
	unsigned int reconnect_attempts;
	unsigned int reconnect_delay_ms;
	unsigned int reconnect_max_delay_ms;
	char tls_ca_file[256];
	unsigned int allow_count;
	char allow[AUDIOFORK_ALLOW_MAX][FORK_URL_MAX];
};

/*! \brief Read the file. \retval 0 in force \retval -1 errors were logged, the old one stays */
int audiofork_conf_load(int reload);
void audiofork_conf_unload(void);
/*! \return the configuration with a reference for the caller */
struct audiofork_conf *audiofork_conf_get(void);

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

/*! \brief Mute or unmute. \return how many forks */
int audiofork_mute(struct ast_channel *chan, const char *id, int read, int write, int on);

/*! \brief One fork as `audiofork list` shows it. */
struct audiofork_line {
	char id[AST_UUID_STR_LEN];
	char channel[AST_CHANNEL_NAME];
	char url[200];
	const char *direction;
	struct fork_stats stats;
};

/*! \brief Call `each` for all forks, or those of one channel. \return how many */
int audiofork_each(const char *channel, void (*each)(const struct audiofork_line *line, void *user),
	void *user);

const char *audiofork_result_name(enum audiofork_result result);

/* ---- AMI and CLI ---- */

int audiofork_manage_init(void);
void audiofork_manage_shutdown(void);

#endif /* AUDIOFORK_H */
