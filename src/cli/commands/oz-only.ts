import type { Command } from 'commander'
import type { CommandModule } from '../commands.ts'
import { CommandFailure } from '../exits.ts'

/** A command of Oz's that Baton has no like of: it says why, and what to use. */
const refuse = (what: string, instead: string): CommandModule => ({
  declare: (command: Command) =>
    void command
      .argument('[words...]', 'whatever it takes there')
      .allowUnknownOption()
      .addHelpText('after', `\n${what} ${instead}`),
  run: () => Promise.reject(new CommandFailure('usage', what, instead)),
})

const RUNNERS = 'Baton has no runners by that name: a run works on a worker, in an environment.'
const RUNNERS_INSTEAD =
  'Image and set-up commands are those of the environment (baton environment create -d IMAGE -c COMMAND); machines are ' +
  'workers (baton worker, baton workers), chosen with --host.'
const INTEGRATIONS = 'This version has no integrations with Linear or Slack.'
const INTEGRATIONS_INSTEAD =
  'Let their webhook or workflow call POST /api/v1/agent/runs with a key (baton api-key create) and `trigger_url`, or ' +
  'plan runs with baton schedule.'

export const runner = refuse(RUNNERS, RUNNERS_INSTEAD)
export const integration = refuse(INTEGRATIONS, INTEGRATIONS_INSTEAD)
