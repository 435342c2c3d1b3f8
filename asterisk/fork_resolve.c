/*
 * asterisk-dialog: name resolution off the service thread.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

#include "fork_resolve.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

struct request {
	struct request *next;
	fork_resolved done;
	void *user;
	char host[256];
};

static struct {
	pthread_mutex_t lock; /* innermost: nothing is called under it */
	pthread_cond_t more;
	pthread_t thread;
	bool running, stopping;
	struct request *first, **last;
	unsigned int waiting;
} resolver = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.more = PTHREAD_COND_INITIALIZER,
};

static void answer(const struct request *r)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG };
	struct fork_addresses found = { 0 };
	struct addrinfo *list;
	int res;

	if ((res = getaddrinfo(r->host, NULL, &hints, &list))) {
		r->done(r->user, &found, gai_strerror(res));
		return;
	}
	for (const struct addrinfo *one = list; one && found.count < FORK_ADDRESSES;
		one = one->ai_next) {
		if (!getnameinfo(one->ai_addr, one->ai_addrlen, found.numeric[found.count],
			FORK_ADDRESS_MAX, NULL, 0, NI_NUMERICHOST)) {
			found.count++;
		}
	}
	freeaddrinfo(list);
	r->done(r->user, &found, "it has no address");
}

static void *resolver_main(void *unused)
{
	(void) unused;
	for (;;) {
		struct request *r;
		bool stopping;

		pthread_mutex_lock(&resolver.lock);
		while (!resolver.first && !resolver.stopping) {
			pthread_cond_wait(&resolver.more, &resolver.lock);
		}
		stopping = resolver.stopping;
		if ((r = resolver.first)) {
			resolver.waiting--;
			if (!(resolver.first = r->next)) {
				resolver.last = &resolver.first;
			}
		}
		pthread_mutex_unlock(&resolver.lock);
		if (!r) {
			return NULL;
		}
		if (stopping) {
			r->done(r->user, &(struct fork_addresses) { 0 }, "stopping");
		} else {
			answer(r);
		}
		free(r);
	}
}

int fork_resolver_start(void)
{
	resolver.first = NULL;
	resolver.last = &resolver.first;
	resolver.waiting = 0;
	resolver.stopping = false;
	if (pthread_create(&resolver.thread, NULL, resolver_main, NULL)) {
		return -1;
	}
	pthread_setname_np(resolver.thread, "fork-resolve");
	resolver.running = true;
	return 0;
}

int fork_resolver_stop(unsigned int timeout_ms)
{
	struct timespec until;

	if (!resolver.running) {
		return 0;
	}
	pthread_mutex_lock(&resolver.lock);
	resolver.stopping = true;
	pthread_cond_signal(&resolver.more);
	pthread_mutex_unlock(&resolver.lock);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += timeout_ms / 1000;
	until.tv_nsec += (timeout_ms % 1000) * 1000000L;
	if (until.tv_nsec >= 1000000000L) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000L;
	}
	if (pthread_timedjoin_np(resolver.thread, NULL, &until)) {
		return -1;
	}
	resolver.running = false;
	return 0;
}

int fork_resolve(const char *host, fork_resolved done, void *user)
{
	struct request *r = calloc(1, sizeof(*r));
	int res = -1;

	if (!r) {
		return -1;
	}
	r->done = done;
	r->user = user;
	snprintf(r->host, sizeof(r->host), "%s", host);
	pthread_mutex_lock(&resolver.lock);
	if (resolver.waiting < FORK_RESOLVE_MAX && !resolver.stopping) {
		*resolver.last = r;
		resolver.last = &r->next;
		resolver.waiting++;
		pthread_cond_signal(&resolver.more);
		res = 0;
	}
	pthread_mutex_unlock(&resolver.lock);
	if (res) {
		free(r);
	}
	return res;
}
