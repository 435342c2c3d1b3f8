/*
 * asterisk-dialog: what the forks' servers wish for the keys of a channel.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief Wishes of the forks' servers put in force, before anybody looks at the keys.
 *
 * In the order of their numbers, with what the dialplan sets in between: whoever sets the mode
 * later is obeyed, and it is his until somebody else sets it. The channel is locked in all of it.
 */

#include "audiofork_fork.h"
#include "audiofork_guard.h"

/*! \brief Take the oldest of all wishes. \return whose it is, no reference; NULL: there is none */
static const struct fork_link *take_wish(struct ast_channel *chan, struct fork_wish *wish)
{
	struct fork_link *found = NULL;
	struct ast_datastore *datastore;
	uint64_t oldest = 0;

	AST_LIST_TRAVERSE(ast_channel_datastores(chan), datastore, entry) {
		if (datastore->info == &audiofork_datastore) {
			struct audiofork *fork = datastore->data;
			uint64_t number = fork_link_wishes(fork->link);

			if (number && (!oldest || number < oldest)) {
				oldest = number;
				found = fork->link;
			}
		}
	}
	return found && fork_link_take_wish(found, wish) ? found : NULL;
}

/*! \brief Somebody else has set the mode after this link's wish. \param link may be gone */
static void wish_over(struct ast_channel *chan, const struct fork_link *link, uint64_t number)
{
	struct ast_datastore *datastore;

	AST_LIST_TRAVERSE(ast_channel_datastores(chan), datastore, entry) {
		if (datastore->info == &audiofork_datastore) {
			struct audiofork *fork = datastore->data;

			if (fork->link == link) {
				fork_link_guard_over(fork->link, number);
			}
		}
	}
}

void audiofork_guard_disown(struct keys_guard *guard, struct ast_channel *chan)
{
	if (guard->owner) {
		wish_over(chan, guard->owner, guard->wish);
		guard->owner = NULL;
	}
}

static void obey(struct keys_guard *guard, struct ast_channel *chan, const struct fork_link *link,
	const struct fork_wish *wish)
{
	if (!wish->leave) {
		if (guard->owner != link) {
			audiofork_guard_disown(guard, chan);
		}
		fork_keys_obey(&guard->keys, &wish->order);
		guard->owner = link;
		guard->wish = wish->number;
	} else if (guard->owner == link) {
		fork_keys_leave(&guard->keys);
		guard->owner = NULL;
	}
}

void audiofork_guard_catch_up(struct keys_guard *guard, struct ast_channel *chan)
{
	const struct fork_link *link;
	struct fork_wish wish;

	if (!guard->watchers) {
		return;
	}
	while ((link = take_wish(chan, &wish))) {
		obey(guard, chan, link, &wish);
	}
	fork_keys_look(&guard->keys, audiofork_guard_now_ms());
}

void audiofork_guard_leave(struct keys_guard *guard, struct ast_channel *chan,
	const struct fork_link *link)
{
	audiofork_guard_catch_up(guard, chan);
	if (link && guard->owner == link) {
		fork_keys_leave(&guard->keys);
		guard->owner = NULL;
	}
}
