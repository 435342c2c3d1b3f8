/*
 * asterisk-dialog: the options of AudioFork().
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief The option string of AudioFork(), parsed and checked.
 *
 * Asterisk's own parser passes over unknown letters and open brackets in silence; this one
 * names what is wrong. Pure: no Asterisk.
 */

#ifndef FORK_OPTIONS_H
#define FORK_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

enum fork_wanted {
	FORK_WANT_READ,
	FORK_WANT_WRITE,
	FORK_WANT_BOTH,
	FORK_WANT_STEREO,
};

/*! Most names in x(). */
#define FORK_NAMES_MAX 16

/*! \brief What the letters ask for. All zeros but `direction`, gains and `r`/`R`: not asked for. */
struct fork_options {
	enum fork_wanted direction;  /*!< D() */
	bool bridged_only;           /*!< b */
	bool beep_start, beep_stop;  /*!< p, P */
	unsigned int beep_s;         /*!< B() */
	int read_gain, write_gain;   /*!< v, V, W */
	char id_variable[80];        /*!< i() */
	char tls_cert[256];          /*!< T(cert[,key[,ca]]), each may be empty */
	char tls_key[256];
	char tls_ca[256];
	bool tls;                    /*!< T() was there at all */
	int reconnect_s;             /*!< R(): first delay, -1 when not given */
	int reconnect_attempts;      /*!< r(), -1 when not given */
	bool json;                   /*!< j */
	unsigned int message_ms;     /*!< m(), 20 when not given */
	unsigned int rate_hz;        /*!< f(), 8000 when not given */
	unsigned int variables;      /*!< x(): so many names */
	char variable[FORK_NAMES_MAX][80];
};

/*!
 * \brief Parse an option string.
 * \param text may be NULL
 * \param inverted direction names as in dmarenin's fork
 * \param why room for a sentence on what is wrong
 * \retval 0 done \retval -1 refused, `why` says which option
 */
int fork_options_parse(struct fork_options *o, const char *text, bool inverted,
	char *why, size_t why_size);

#endif /* FORK_OPTIONS_H */
