/*
 * asterisk-dialog: keys of a channel, seen and blocked.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief A channel's guard, as audiofork_keys.c, audiofork_wish.c and func_dtmf_guard.c share it.
 */

#ifndef AUDIOFORK_GUARD_H
#define AUDIOFORK_GUARD_H

#include "audiofork.h"

#include "fork_keys.h"

/*!
 * \brief The guard of a channel.
 *
 * References: the datastore's, the registry's, and one of each framehook (a new one may be
 * attached before the core has taken off the last).
 *
 * Order of locks: channel, then the guard's own. The channel's lock guards all but `channel`.
 */
struct keys_guard {
	struct fork_keys keys;
	int hook;                       /*!< the framehook's id, -1: none */
	unsigned int watchers;          /*!< forks that want to be told */
	const struct fork_link *owner;  /*!< whose wish is in force: to be compared; NULL: no fork's */
	uint64_t wish;                  /*!< its number */
	char channel[AST_CHANNEL_NAME]; /*!< guarded by the guard's lock */
};

/* audiofork_keys.c; the channel is locked */
struct keys_guard *audiofork_guard_find(struct ast_channel *chan);
/*! \return the channel's guard, a new one if need be; no reference: the channel is locked */
struct keys_guard *audiofork_guard_of(struct ast_channel *chan);
/*! \brief See to it that the guard sees the keys. \retval -1 it cannot be */
int audiofork_guard_attach(struct keys_guard *guard, struct ast_channel *chan);
/*! \brief The clock that keys are judged by. */
uint64_t audiofork_guard_now_ms(void);
/*! \brief Let a kept key go, if one is due and can be taken. */
void audiofork_guard_release(struct keys_guard *guard, struct ast_channel *chan);
/*! \brief Take the framehook off when it has nothing left to do. */
void audiofork_guard_rest(struct keys_guard *guard, struct ast_channel *chan);

/* audiofork_wish.c; the channel is locked */
/*! \brief Put in force what the servers of the channel's forks wish: before looking at the keys. */
void audiofork_guard_catch_up(struct keys_guard *guard, struct ast_channel *chan);
/*! \brief The mode is about to be set by somebody else. */
void audiofork_guard_disown(struct keys_guard *guard, struct ast_channel *chan);
/*! \brief The fork of this link has ended: what it has set is open. \param link may be NULL */
void audiofork_guard_leave(struct keys_guard *guard, struct ast_channel *chan,
	const struct fork_link *link);

/* func_dtmf_guard.c */
int audiofork_guard_register(void);
void audiofork_guard_unregister(void);

#endif /* AUDIOFORK_GUARD_H */
