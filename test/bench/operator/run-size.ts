/** How many members a run has: 50 of 10 nodes unless the environment says otherwise, for a first look or a larger machine. */
const MEMBERS = 50;
const NODES = 10;

export interface RunSize {
  readonly members: number;
  readonly nodes: number;
}

export function sizeOfRun(): RunSize {
  return { members: numberIn('MEMBERS', MEMBERS), nodes: numberIn('NODES', NODES) };
}

function numberIn(variable: string, otherwise: number): number {
  const text = process.env[variable];
  if (text === undefined) return otherwise;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new Error(`${variable}=${text}: it is a number from 1 on`);
  return value;
}
