/*
 * asterisk-dialog: the pure parts of the fork, for ctypes.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief Plain functions around fork_audio, fork_url and fork_options, callable from Python.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fork_audio.h"
#include "fork_options.h"
#include "fork_url.h"

/*! \brief Cells to frames: a mixer behind a handle. */
void *mixer_new(int read, int write, int read_gain, int write_gain, int stereo,
	unsigned int rate_hz)
{
	const struct fork_shape shape = { .read = read, .write = write, .stereo = stereo,
		.rate_hz = rate_hz, .read_gain = read_gain, .write_gain = write_gain };
	struct fork_mixer *m = malloc(sizeof(*m));

	fork_mixer_init(m, &shape);
	return m;
}

void mixer_free(struct fork_mixer *m)
{
	fork_mixer_free(m);
	free(m);
}

void mixer_push(struct fork_mixer *m, int direction, unsigned long long time_us,
	unsigned int rate_hz, int silent, const int16_t *samples, int count)
{
	struct fork_cell cell = { .time_us = time_us, .rate_hz = rate_hz, .count = (uint16_t) count,
		.direction = (uint8_t) direction, .silent = (uint8_t) silent };

	if (samples) {
		memcpy(cell.samples, samples, (size_t) count * sizeof(*samples));
	}
	fork_mixer_push(m, &cell);
}

int mixer_pull(struct fork_mixer *m, unsigned long long now_us, int16_t *frame)
{
	return fork_mixer_pull(m, now_us, frame);
}

int mixer_drain(struct fork_mixer *m, int16_t *frame)
{
	return fork_mixer_drain(m, frame);
}

int mixer_waits(const struct fork_mixer *m)
{
	return fork_mixer_waits(m);
}

/*! \brief "tls|port|host|path|shown", or "!why". */
void url_show(const char *text, char *out, size_t size)
{
	struct fork_url url;
	const char *why = "";

	if (fork_url_parse(&url, text, &why)) {
		snprintf(out, size, "!%s", why);
	} else {
		snprintf(out, size, "%d|%u|%s|%s|%s", url.tls, url.port, url.host, url.path, url.shown);
	}
}

int url_allowed(const char *entry, const char *text)
{
	struct fork_url url;
	const char *why;

	return !fork_url_parse(&url, text, &why) && fork_url_allows(entry, &url);
}

/*! \brief All fields, one `name=value` a line, or "!why". */
void options_show(const char *text, int inverted, char *out, size_t size)
{
	static const char *const directions[] = { "read", "write", "both", "stereo" };
	struct fork_options o;
	char why[160];
	int used;

	if (fork_options_parse(&o, text, inverted, why, sizeof(why))) {
		snprintf(out, size, "!%s", why);
		return;
	}
	used = snprintf(out, size, "direction=%s\nb=%d\np=%d\nP=%d\nB=%u\nv=%d\nV=%d\ni=%s\ntls=%d\ncert=%s\n"
		"key=%s\nca=%s\nR=%d\nr=%d\nj=%d\nm=%u\nf=%u\nx=", directions[o.direction], o.bridged_only, o.beep_start,
		o.beep_stop, o.beep_s, o.read_gain, o.write_gain, o.id_variable, o.tls, o.tls_cert,
		o.tls_key, o.tls_ca, o.reconnect_s, o.reconnect_attempts, o.json, o.message_ms, o.rate_hz);
	for (unsigned int i = 0; i < o.variables; i++) {
		used += snprintf(out + used, size - (size_t) used, i ? "&%s" : "%s", o.variable[i]);
	}
}
