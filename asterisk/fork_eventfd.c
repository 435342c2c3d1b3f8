/*
 * asterisk-dialog: the descriptor that libwebsockets forgets.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

#include "fork_eventfd.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WAKES 3

/*! \brief What the kernel says of a descriptor. \retval false it is no eventfd, or has no id */
static bool look(int fd, long *id, long *count)
{
	char path[64], line[128];
	bool found_id = false, found_count = false;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	if (!(file = fopen(path, "re"))) {
		return false;
	}
	while (fgets(line, sizeof(line), file)) {
		found_count = sscanf(line, "eventfd-count: %lx", (unsigned long *) count) == 1
			|| found_count;
		found_id = sscanf(line, "eventfd-id: %ld", id) == 1 || found_id;
	}
	fclose(file);
	return found_id && found_count;
}

/*! \brief Whether it counts each wake, and nothing but these. */
static bool counts_wakes(int fd, void (*wake)(void))
{
	long id, before, now;

	if (!look(fd, &id, &before)) {
		return false;
	}
	for (int i = 1; i <= WAKES; i++) {
		wake();
		if (!look(fd, &id, &now) || now != before + i) {
			return false;
		}
	}
	return true;
}

struct fork_eventfd fork_eventfd_find(void (*wake)(void))
{
	struct fork_eventfd found = { .fd = -1 };
	DIR *folder = opendir("/proc/self/fd");
	struct dirent *entry;
	long count;

	while (folder && found.fd < 0 && (entry = readdir(folder))) {
		int fd = atoi(entry->d_name);

		if (entry->d_name[0] != '.' && counts_wakes(fd, wake) && look(fd, &found.id, &count)) {
			found.fd = fd;
		}
	}
	if (folder) {
		closedir(folder);
	}
	return found;
}

void fork_eventfd_close(struct fork_eventfd *eventfd)
{
	long id, count;

	if (eventfd->fd >= 0 && look(eventfd->fd, &id, &count) && id == eventfd->id) {
		close(eventfd->fd);
	}
	eventfd->fd = -1;
}
