/*
 * asterisk-dialog: the forks that there are.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief Forks found by id or channel: to be told of, stopped, summed up.
 */

#include "audiofork_fork.h"

#include "asterisk/beep.h"
#include "asterisk/utils.h"

static struct ao2_container *registry;

/* Sums of the forks that have ended. The lock is a leaf; who asks for all sums holds it while
 * looking through the others: a fork is in these or among those, never both. */
static struct audiofork_totals ended;
AST_MUTEX_DEFINE_STATIC(ended_lock);

int audiofork_registry_init(void)
{
	registry = ao2_container_alloc_list(AO2_ALLOC_OPT_LOCK_MUTEX, 0, NULL, NULL);
	return registry ? 0 : -1;
}

void audiofork_registry_shutdown(void)
{
	ao2_cleanup(registry);
	registry = NULL;
}

int audiofork_registry_add(struct audiofork *fork)
{
	return ao2_link(registry, fork) ? 0 : -1;
}

void audiofork_registry_remove(struct audiofork *fork)
{
	ao2_unlink(registry, fork);
}

/* ---- whom it is about ---- */

void audiofork_note_channel(struct audiofork *fork, struct ast_channel *chan)
{
	ao2_lock(fork);
	ast_copy_string(fork->channel, ast_channel_name(chan), sizeof(fork->channel));
	ast_copy_string(fork->uniqueid, ast_channel_uniqueid(chan), sizeof(fork->uniqueid));
	ast_copy_string(fork->linkedid, ast_channel_linkedid(chan), sizeof(fork->linkedid));
	ao2_unlock(fork);
}

void audiofork_copy_who(struct audiofork *fork, struct audiofork_who *who)
{
	static const char *const directions[] = {
		[FORK_WANT_READ] = "in", [FORK_WANT_WRITE] = "out", [FORK_WANT_BOTH] = "both",
		[FORK_WANT_STEREO] = "stereo",
	};

	who->direction = directions[fork->options.direction];
	ast_copy_string(who->id, fork->id, sizeof(who->id));
	ast_copy_string(who->url, fork->url, sizeof(who->url));
	ao2_lock(fork);
	ast_copy_string(who->channel, fork->channel, sizeof(who->channel));
	ast_copy_string(who->uniqueid, fork->uniqueid, sizeof(who->uniqueid));
	ast_copy_string(who->linkedid, fork->linkedid, sizeof(who->linkedid));
	ao2_unlock(fork);
}

/*! \brief The present name of the fork's channel; any thread. */
static void copy_channel(struct audiofork *fork, char channel[AST_CHANNEL_NAME])
{
	ao2_lock(fork);
	ast_copy_string(channel, fork->channel, AST_CHANNEL_NAME);
	ao2_unlock(fork);
}

/* ---- stop, keys ---- */

/*! \brief Stop one fork of the channel. \return 0 there was none */
static int stop_one(struct ast_channel *chan, const char *id, const char *reason, int *beep)
{
	struct ast_datastore *datastore;
	struct audiofork *fork;

	ast_channel_lock(chan);
	datastore = ast_channel_datastore_find(chan, &audiofork_datastore, S_OR(id, NULL));
	if (!datastore) {
		ast_channel_unlock(chan);
		return 0;
	}
	fork = ao2_bump(datastore->data);
	if (atomic_load(&fork->hooked)) {
		ast_audiohook_remove(chan, &fork->hook);
	}
	audiofork_unwatch(fork, chan);
	audiofork_detach(fork, reason);
	audiofork_remove_datastore(chan, fork->id);
	ast_channel_unlock(chan);
	if (fork->beep_id[0]) {
		ast_beep_stop(chan, fork->beep_id);
	}
	*beep |= fork->options.beep_stop;
	ao2_ref(fork, -1);
	return 1;
}

int audiofork_stop(struct ast_channel *chan, const char *id, const char *reason, int *beep)
{
	int count = 0;

	*beep = 0;
	while (stop_one(chan, id, reason, beep)) {
		count++;
	}
	return count;
}

void audiofork_digit(struct ast_channel *chan, char digit, unsigned int duration_ms,
	enum fork_key_verdict verdict)
{
	struct ast_datastore *datastore;

	AST_LIST_TRAVERSE(ast_channel_datastores(chan), datastore, entry) {
		if (datastore->info == &audiofork_datastore) {
			struct audiofork *fork = datastore->data;

			fork_link_digit(fork->link, digit, duration_ms, verdict);
		}
	}
}

/*! \brief The name of the channel that the fork is at work on; empty: on none. */
static void working_on(const char *id, char channel[AST_CHANNEL_NAME])
{
	struct ao2_iterator i = ao2_iterator_init(registry, 0);
	struct audiofork *fork;

	channel[0] = '\0';
	for (; !channel[0] && (fork = ao2_iterator_next(&i)); ao2_ref(fork, -1)) {
		if (!strcmp(id, fork->id) && atomic_load(&fork->hooked)) {
			copy_channel(fork, channel);
		}
	}
	ao2_iterator_destroy(&i);
}

int audiofork_stop_id(const char *id, const char *reason, int *beep)
{
	char name[AST_CHANNEL_NAME];
	int count = 0;

	/* A transfer may give its channel another name meanwhile: look again. */
	for (int tries = 0; tries < 10 && !count; tries++) {
		struct ast_channel *chan;

		working_on(id, name);
		if (!name[0]) {
			break;
		}
		if ((chan = ast_channel_get_by_name(name))) {
			count = audiofork_stop(chan, id, reason, beep);
			ast_channel_unref(chan);
		} else {
			usleep(1000);
		}
	}
	return count;
}

void audiofork_stop_all(const char *reason)
{
	struct ao2_iterator i = ao2_iterator_init(registry, 0);
	struct audiofork *fork;

	for (; (fork = ao2_iterator_next(&i)); ao2_ref(fork, -1)) {
		int beep;

		audiofork_stop_id(fork->id, reason, &beep);
	}
	ao2_iterator_destroy(&i);
}

/* ---- all, or some ---- */

int audiofork_apply(const char *channel, const char *id,
	void (*act)(struct fork_link *link, void *user), void *user)
{
	struct ao2_iterator i = ao2_iterator_init(registry, 0);
	struct audiofork *fork;
	int count = 0;

	for (; (fork = ao2_iterator_next(&i)); ao2_ref(fork, -1)) {
		char name[AST_CHANNEL_NAME];

		copy_channel(fork, name);
		if (atomic_load(&fork->hooked) && (ast_strlen_zero(id) || !strcmp(id, fork->id))
			&& (ast_strlen_zero(channel) || !strcasecmp(channel, name))) {
			act(fork->link, user);
			count++;
		}
	}
	ao2_iterator_destroy(&i);
	return count;
}

int audiofork_each(const char *channel_or_id, void (*each)(const struct audiofork_who *who,
	const struct fork_stats *stats, void *user), void *user)
{
	struct ao2_iterator i = ao2_iterator_init(registry, 0);
	struct audiofork *fork;
	int count = 0;

	for (; (fork = ao2_iterator_next(&i)); ao2_ref(fork, -1)) {
		struct audiofork_who who;
		struct fork_stats stats;

		audiofork_copy_who(fork, &who);
		if (!fork->link || (!ast_strlen_zero(channel_or_id)
			&& strcasecmp(channel_or_id, who.channel) && strcmp(channel_or_id, who.id))) {
			continue;
		}
		fork_link_stats(fork->link, &stats);
		each(&who, &stats, user);
		count++;
	}
	ao2_iterator_destroy(&i);
	return count;
}

void audiofork_count_ended(struct audiofork *fork, const struct fork_stats *stats)
{
	ast_mutex_lock(&ended_lock);
	fork->counted = 1;
	ended.forks++;
	audiofork_add_stats(&ended.stats, stats);
	ast_mutex_unlock(&ended_lock);
}

void audiofork_totals(struct audiofork_totals *totals)
{
	struct ao2_iterator i = ao2_iterator_init(registry, 0);
	struct audiofork *fork;

	ast_mutex_lock(&ended_lock);
	*totals = ended;
	for (; (fork = ao2_iterator_next(&i)); ao2_ref(fork, -1)) {
		struct fork_stats stats;

		if (fork->link && !fork->counted) {
			fork_link_stats(fork->link, &stats);
			audiofork_add_stats(&totals->stats, &stats);
			totals->forks_now++;
		}
	}
	ast_mutex_unlock(&ended_lock);
	ao2_iterator_destroy(&i);
	totals->forks += totals->forks_now;
}
