/*
 * asterisk-dialog: the options of AudioFork().
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

#include "fork_options.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct parser {
	struct fork_options *o;
	bool inverted;
	char *why;
	size_t why_size;
};

static int refuse(const struct parser *p, char letter, const char *arg, const char *wanted)
{
	snprintf(p->why, p->why_size, "option %c(%.40s): %s", letter, arg, wanted);
	return -1;
}

static int parse_number(const char *arg, int low, int high, int *value)
{
	char *end;
	long number = strtol(arg, &end, 10);

	if (!*arg || *end || isspace((unsigned char) *arg) || number < low || number > high) {
		return -1;
	}
	*value = (int) number;
	return 0;
}

static int parse_direction(const struct parser *p, const char *arg)
{
	static const struct {
		const char *name;
		enum fork_wanted standard, inverted;
	} names[] = {
		/* dmarenin's fork gave the caller's voice for out and both, and nothing for in. */
		{ "in", FORK_WANT_READ, FORK_WANT_WRITE },
		{ "out", FORK_WANT_WRITE, FORK_WANT_READ },
		{ "both", FORK_WANT_BOTH, FORK_WANT_READ },
		/* The channel's own terms mean the same whatever the configuration says. */
		{ "read", FORK_WANT_READ, FORK_WANT_READ },
		{ "write", FORK_WANT_WRITE, FORK_WANT_WRITE },
		{ "stereo", FORK_WANT_STEREO, FORK_WANT_STEREO },
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (!strcasecmp(arg, names[i].name)) {
			p->o->direction = p->inverted ? names[i].inverted : names[i].standard;
			return 0;
		}
	}
	return refuse(p, 'D', arg, "in, out, both, stereo, read or write is wanted");
}

static int parse_tls(const struct parser *p, const char *arg)
{
	char *fields[] = { p->o->tls_cert, p->o->tls_key, p->o->tls_ca };
	const char *rest = arg;

	p->o->tls = true;
	for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
		size_t length = strcspn(rest, ",");

		if (length >= sizeof(p->o->tls_cert)) {
			return refuse(p, 'T', arg, "too long a file name");
		}
		memcpy(fields[i], rest, length);
		fields[i][length] = '\0';
		rest += length;
		if (!*rest) {
			return 0;
		}
		rest++;
	}
	return refuse(p, 'T', arg, "at most cert, key, ca");
}

/*! \brief Whether all of it are letters, digits and underscores; a bracket makes a function. */
static bool plain_name(const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		if (!isalnum((unsigned char) text[i]) && text[i] != '_') {
			return false;
		}
	}
	return true;
}

static int parse_variable(const struct parser *p, const char *arg)
{
	if (!*arg || strlen(arg) >= sizeof(p->o->id_variable)) {
		return refuse(p, 'i', arg, "the name of a variable is wanted");
	}
	if (!plain_name(arg, strlen(arg))) {
		return refuse(p, 'i', arg, "letters, digits and underscores only");
	}
	strcpy(p->o->id_variable, arg);
	return 0;
}

static int parse_variables(const struct parser *p, const char *arg)
{
	struct fork_options *o = p->o;
	const char *name = arg;

	for (o->variables = 0;; name++) {
		size_t length = strcspn(name, "&");

		if (!length || length >= sizeof(o->variable[0]) || !plain_name(name, length)) {
			return refuse(p, 'x', arg, "names of variables with & between them are wanted");
		}
		if (o->variables == FORK_NAMES_MAX) {
			return refuse(p, 'x', arg, "at most 16 variables");
		}
		memcpy(o->variable[o->variables], name, length);
		o->variable[o->variables++][length] = '\0';
		name += length;
		if (!*name) {
			return 0;
		}
	}
}

static int parse_message(const struct parser *p, const char *arg)
{
	int ms;

	if (parse_number(arg, 20, 200, &ms) || ms % 20) {
		return refuse(p, 'm', arg, "20 to 200 ms in steps of 20 are wanted");
	}
	p->o->message_ms = (unsigned int) ms;
	return 0;
}

static int parse_rate(const struct parser *p, const char *arg)
{
	int rate;

	if (parse_number(arg, 8000, 16000, &rate) || (rate != 8000 && rate != 16000)) {
		return refuse(p, 'f', arg, "8000 or 16000 is wanted");
	}
	p->o->rate_hz = (unsigned int) rate;
	return 0;
}

static int parse_gain(const struct parser *p, char letter, const char *arg)
{
	int gain;

	if (parse_number(arg, -4, 4, &gain)) {
		return refuse(p, letter, arg, "a number from -4 to 4 is wanted");
	}
	if (letter != 'V') {
		p->o->read_gain = gain;
	}
	if (letter != 'v') {
		p->o->write_gain = gain;
	}
	return 0;
}

static int parse_with_argument(const struct parser *p, char letter, const char *arg)
{
	int seconds = 15;

	switch (letter) {
	case 'B':
		if (*arg && parse_number(arg, 1, 3600, &seconds)) {
			return refuse(p, letter, arg, "seconds from 1 to 3600 are wanted");
		}
		p->o->beep_s = (unsigned int) seconds;
		return 0;
	case 'v':
	case 'V':
	case 'W':
		return parse_gain(p, letter, arg);
	case 'i':
		return parse_variable(p, arg);
	case 'D':
		return parse_direction(p, arg);
	case 'T':
		return parse_tls(p, arg);
	case 'm':
		return parse_message(p, arg);
	case 'f':
		return parse_rate(p, arg);
	case 'x':
		return parse_variables(p, arg);
	case 'R':
		return parse_number(arg, 0, 3600, &p->o->reconnect_s)
			? refuse(p, letter, arg, "seconds from 0 to 3600 are wanted") : 0;
	default: /* 'r' */
		return parse_number(arg, 0, 1000000, &p->o->reconnect_attempts)
			? refuse(p, letter, arg, "a number of attempts is wanted") : 0;
	}
}

static int parse_flag(const struct parser *p, char letter)
{
	switch (letter) {
	case 'b':
		p->o->bridged_only = true;
		return 0;
	case 'j':
		p->o->json = true;
		return 0;
	case 'p':
		p->o->beep_start = true;
		return 0;
	case 'P':
		p->o->beep_stop = true;
		return 0;
	default:
		snprintf(p->why, p->why_size, isgraph((unsigned char) letter)
			? "option %c is not known" : "a stray character (code %d)", letter);
		return -1;
	}
}

int fork_options_parse(struct fork_options *o, const char *text, bool inverted,
	char *why, size_t why_size)
{
	struct parser p = { .o = o, .inverted = inverted, .why = why, .why_size = why_size };
	char arg[800];

	memset(o, 0, sizeof(*o));
	o->direction = inverted ? FORK_WANT_READ : FORK_WANT_BOTH;
	o->reconnect_s = o->reconnect_attempts = -1;
	o->message_ms = 20;
	o->rate_hz = 8000;
	for (const char *c = text ? text : ""; *c; c++) {
		char letter = *c;
		size_t length = 0;

		arg[0] = '\0';
		if (c[1] == '(') {
			length = strcspn(c + 2, ")");
			if (!c[2 + length] || length >= sizeof(arg)) {
				snprintf(why, why_size, "option %c has no closing bracket", letter);
				return -1;
			}
			memcpy(arg, c + 2, length);
			arg[length] = '\0';
			c += length + 2;
		}
		if (strchr("BvVWiDTRrmfx", letter) ? parse_with_argument(&p, letter, arg)
			: parse_flag(&p, letter)) {
			return -1;
		}
	}
	if (o->variables && !o->json) {
		snprintf(why, why_size, "option x wants option j");
		return -1;
	}
	return 0;
}
