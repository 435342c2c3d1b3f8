/*
 * asterisk-dialog: the post command.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief A shell command run when a fork has ended.
 */

#include "audiofork.h"

#include "asterisk/app.h"
#include "asterisk/logger.h"
#include "asterisk/module.h"
#include "asterisk/strings.h"
#include "asterisk/utils.h"

/*! \brief ` NAME='text'`, quoted for a shell. */
static void append_quoted(struct ast_str **line, const char *name, const char *text)
{
	ast_str_append(line, 0, "%s='", name);
	for (; *text; text++) {
		ast_str_append(line, 0, *text == '\'' ? "'\\''" : "%c", *text);
	}
	ast_str_append(line, 0, "' ");
}

static void *post_command_main(void *data)
{
	char *line = data;

	ast_safe_system(line);
	ast_free(line);
	ast_module_unref(AST_MODULE_SELF);
	return NULL;
}

void audiofork_post_run(const char *command, const char *id, const char *channel)
{
	struct ast_str *line = ast_str_create(256);
	pthread_t thread;
	char *text;

	if (!line) {
		return;
	}
	append_quoted(&line, "AUDIOFORK_ID", id);
	append_quoted(&line, "AUDIOFORK_CHANNEL", channel);
	ast_str_append(&line, 0, "%s", command);
	text = ast_strdup(ast_str_buffer(line));
	ast_free(line);
	ast_module_ref(AST_MODULE_SELF);
	if (!text || ast_pthread_create_detached_background(&thread, NULL, post_command_main, text)) {
		ast_log(LOG_WARNING, "AudioFork %s: cannot start a thread for the post command\n",
			id);
		ast_free(text);
		ast_module_unref(AST_MODULE_SELF);
	}
}
