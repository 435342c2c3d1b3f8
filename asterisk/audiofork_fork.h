/*
 * asterisk-dialog: a fork on a channel.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief Private to the files that hold forks in their hands.
 *
 * audiofork_capture.c   their hook and datastore, their beginning and end
 * audiofork_registry.c  those that there are: found, told of, stopped, summed up
 *
 * A fork's references
 * - the audiohook's, given back by audiofork_detach();
 * - the datastore's, given back when it is destroyed (stop, end of the channel);
 * - the link's, given back when it has ended;
 * - the registry's, given back when both the channel (datastore) and the link are done.
 *
 * Order of locks: channel, audiohook, fork. The service thread takes no channel's lock.
 */

#ifndef AUDIOFORK_FORK_H
#define AUDIOFORK_FORK_H

#include "audiofork.h"

#include <stdatomic.h>

#include "asterisk/audiohook.h"
#include "asterisk/datastore.h"

struct audiofork {
	struct ast_audiohook hook;
	struct fork_link *link;
	struct fork_options options;
	char id[AST_UUID_STR_LEN];
	char url[FORK_URL_MAX];
	char beep_id[64];
	char channel[AST_CHANNEL_NAME]; /*!< guarded by the fork's lock, as the next two */
	char uniqueid[AST_MAX_UNIQUEID];
	char linkedid[AST_MAX_UNIQUEID];
	struct audiofork_texts texts;   /*!< service thread only */
	char *post_command;
	/*! Where the hook is; no reference: to be used as long as it is there, under the hook's lock. */
	struct ast_channel *chan;
	atomic_bool hooked;             /*!< the audiohook holds its reference */
	atomic_int unfinished;          /*!< channel and link: 2, 1, 0 */
	int watching;                   /*!< keys are told to it; guarded by the channel's lock */
	int counted;                    /*!< among those that have ended, in audiofork_totals() */
};

/* audiofork_capture.c */
extern const struct ast_datastore_info audiofork_datastore;
/*! \brief Take the datastore of a fork off the channel, which is locked. */
void audiofork_remove_datastore(struct ast_channel *chan, const char *id);
/*! \brief No key is told any more. The channel is locked. */
void audiofork_unwatch(struct audiofork *fork, struct ast_channel *chan);
/*! \brief The hook is on no list any more: no further frame will come. */
void audiofork_detach(struct audiofork *fork, const char *reason);

/* audiofork_registry.c */
int audiofork_registry_init(void);
void audiofork_registry_shutdown(void);
/*! \retval -1 no memory */
int audiofork_registry_add(struct audiofork *fork);
void audiofork_registry_remove(struct audiofork *fork);
/*! \brief The fork is on this channel, which is locked. */
void audiofork_note_channel(struct audiofork *fork, struct ast_channel *chan);
/*! \brief Whom events and lists speak of, as it is now; any thread. */
void audiofork_copy_who(struct audiofork *fork, struct audiofork_who *who);
/*! \brief Its link has ended with these counters. */
void audiofork_count_ended(struct audiofork *fork, const struct fork_stats *stats);
void audiofork_stop_all(const char *reason);

#endif /* AUDIOFORK_FORK_H */
