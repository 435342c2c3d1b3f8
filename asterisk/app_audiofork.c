/*
 * asterisk-dialog: AudioFork(), a call's audio to a WebSocket.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief Dialplan applications AudioFork() and StopAudioFork(); load, reload, unload.
 *
 * The help texts are in documentation/thirdparty/app_audiofork-en_US.xml.
 */

/*** MODULEINFO
	<depend>libwebsockets</depend>
	<use type="module">func_periodic_hook</use>
	<support_level>extended</support_level>
 ***/

#include "audiofork.h"

#include "asterisk/app.h"
#include "asterisk/file.h"
#include "asterisk/module.h"
#include "asterisk/pbx.h"

static const char start_app[] = "AudioFork";
static const char stop_app[] = "StopAudioFork";
static const char play_app[] = "AudioForkPlay";

/*!
 * \brief AudioFork(wsurl[,options[,post_command]])
 *
 * A fork that cannot be started does not end the call: the dialplan reads AUDIOFORK_STATUS.
 */
static int start_exec(struct ast_channel *chan, const char *data)
{
	struct audiofork_request request = { .in_dialplan = 1 };
	struct audiofork_started started;
	enum audiofork_result result;
	AST_DECLARE_APP_ARGS(args,
		AST_APP_ARG(url);
		AST_APP_ARG(options);
		AST_APP_ARG(post_command);
	);
	char *parse = ast_strdupa(data);

	AST_STANDARD_APP_ARGS(args, parse);
	request.url = args.url;
	request.options = args.options;
	request.post_command = args.post_command;
	result = audiofork_start(chan, &request, &started);
	if (result != AUDIOFORK_STARTED) {
		ast_log(LOG_WARNING, "AudioFork on %s was not started: %s\n", ast_channel_name(chan),
			started.why);
	}
	pbx_builtin_setvar_helper(chan, "AUDIOFORK_STATUS", audiofork_result_name(result));
	pbx_builtin_setvar_helper(chan, "AUDIOFORK_ID", started.id);
	pbx_builtin_setvar_helper(chan, "AUDIOFORK_WSSERVER", started.url);
	return 0;
}

/*! \brief StopAudioFork([id]) */
static int stop_exec(struct ast_channel *chan, const char *data)
{
	int beep;

	if (!audiofork_stop(chan, data, "StopAudioFork", &beep)) {
		ast_log(LOG_WARNING, "StopAudioFork on %s: no such fork\n", ast_channel_name(chan));
	} else if (beep) {
		ast_stream_and_wait(chan, "beep", "");
	}
	return 0;
}

static int register_all(void)
{
	return ast_register_application_xml(start_app, start_exec)
		|| ast_register_application_xml(stop_app, stop_exec)
		|| ast_register_application_xml(play_app, audiofork_play_exec)
		|| audiofork_keys_init()
		|| audiofork_manage_init()
		|| audiofork_cli_init();
}

static void unregister_all(void)
{
	ast_unregister_application(start_app);
	ast_unregister_application(stop_app);
	ast_unregister_application(play_app);
	audiofork_manage_shutdown();
	audiofork_cli_shutdown();
}

/*! \brief What channels hold first: when it cannot all be detached, the module stays as it was. */
static int unload_module(void)
{
	if (audiofork_keys_shutdown()) {
		return -1;
	}
	if (audiofork_capture_shutdown()) {
		audiofork_keys_init();
		return -1;
	}
	unregister_all();
	audiofork_conf_unload();
	return 0;
}

static int load_module(void)
{
	if (audiofork_conf_load()) {
		return AST_MODULE_LOAD_DECLINE;
	}
	if (audiofork_capture_init()) {
		audiofork_conf_unload();
		return AST_MODULE_LOAD_DECLINE;
	}
	if (register_all()) {
		unload_module();
		return AST_MODULE_LOAD_DECLINE;
	}
	return AST_MODULE_LOAD_SUCCESS;
}

static int reload_module(void)
{
	return audiofork_conf_load();
}

AST_MODULE_INFO(ASTERISK_GPL_KEY, AST_MODFLAG_DEFAULT, "Fork a call's audio to a WebSocket",
	.support_level = AST_MODULE_SUPPORT_EXTENDED,
	.load = load_module,
	.unload = unload_module,
	.reload = reload_module,
	/* No optional_modules: where func_periodic_hook fails to load, 16 would decline this one. */
);
