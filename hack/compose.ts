// The compose files of examples/compose, made by the generator that people use themselves, so that they cannot drift from it.
import { composeFile } from '@collective/cli/compose/compose-file';
import { planCompose } from '@collective/cli/compose/compose-plan';
import { COLLECTIVE_DEFAULT } from '@collective/cli/trust-domain-flag';
import { PORT_BASE_DEFAULT } from '@collective/cli/up/layout';
import { CAPACITY_DEFAULT, HOST_DEFAULT, NODES_DEFAULT } from '@collective/cli/up/up-plan';
import { VERSION } from '@collective/cli/version';

const DEFAULTS = {
  nodes: NODES_DEFAULT,
  capacity: CAPACITY_DEFAULT,
  collective: COLLECTIVE_DEFAULT,
  image: `collective:${VERSION}`,
  portBase: PORT_BASE_DEFAULT,
  host: HOST_DEFAULT,
};

export function composeFiles(): Map<string, string> {
  return new Map([
    ['examples/compose/single-node/compose.yaml', composeFile(planCompose({ ...DEFAULTS, members: 1 }))],
    ['examples/compose/three-member/compose.yaml', composeFile(planCompose({ ...DEFAULTS, members: 3 }))],
  ]);
}
