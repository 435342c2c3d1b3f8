/*
 * asterisk-dialog: what a server wishes for the keys of a channel.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief Guards as they are asked for and as they are put in force; fork_guard.h is between the two.
 */

#ifndef FORK_WISH_H
#define FORK_WISH_H

#include <stdbool.h>
#include <stdint.h>

#include "fork_keys.h"
#include "fork_message.h"

/*! \brief What a server asks for. The order's own limit is not set: it is counted from the post. */
struct fork_guard_ask {
	char name[FORK_ID_MAX];
	struct fork_keys_order order;
	uint32_t limit_ms;        /*!< 0: none */
};

/*! \brief A mode that is in force from now on, as far as its fork is concerned. */
struct fork_wish {
	uint64_t number;          /*!< of all wishes of all forks, from 1 */
	struct fork_keys_order order;
	bool leave;               /*!< the fork has ended: what it has ordered is no longer */
};

#endif /* FORK_WISH_H */
