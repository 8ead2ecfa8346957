import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CRON } from './cron.ts';
import { customResourceDefinitions } from './custom-resource.ts';
import type { JsonSchema } from './schema.ts';

function* fieldsOf(path: string, schema: JsonSchema): Generator<{ path: string; schema: JsonSchema }> {
  yield { path, schema };
  for (const [name, child] of Object.entries(schema.properties ?? {})) yield* fieldsOf(`${path}.${name}`, child);
  if (schema.items !== undefined) yield* fieldsOf(`${path}[]`, schema.items);
  if (schema.additionalProperties !== undefined) yield* fieldsOf(`${path}{}`, schema.additionalProperties);
}

const fields = customResourceDefinitions().flatMap(({ spec: { names, versions } }) => {
  const { spec, status } = versions[0].schema.openAPIV3Schema.properties ?? {};
  assert.ok(spec !== undefined && status !== undefined);
  return [...fieldsOf(`${names.kind}.spec`, spec), ...fieldsOf(`${names.kind}.status`, status)];
});

test('K1: every field of both kinds says what it means', () => {
  assert.ok(fields.length > 100);
  assert.deepEqual(
    fields.filter(({ schema }) => !/[.]$/.test(schema.description ?? '')).map(({ path }) => path),
    [],
  );
});

test('K1: every string, list and map is bounded, and every list says how it is merged', () => {
  const unbounded = fields.filter(
    ({ schema }) =>
      (schema.type === 'string' && schema.enum === undefined && schema.maxLength === undefined) ||
      (schema.type === 'array' && (schema.maxItems === undefined || schema['x-kubernetes-list-type'] === undefined)) ||
      (schema.additionalProperties !== undefined && schema.maxProperties === undefined),
  );
  assert.deepEqual(
    unbounded.map(({ path }) => path),
    [],
  );
});

test('K1: unknown fields are kept nowhere but in what is passed on to a pod', () => {
  const open = fields.filter(({ schema }) => schema['x-kubernetes-preserve-unknown-fields'] === true);
  assert.deepEqual(
    open.map(({ path }) => path),
    ['Collective.spec.defaults.affinity', 'Member.spec.coordinator.affinity', 'Member.spec.nodePools[].affinity'],
  );
});

test('a schedule is what the CronJob controller reads', () => {
  const schedule = new RegExp(CRON);
  for (const good of ['0 0 * * *', '*/5 * * * *', '0-59/7 0,12 1-15 1-6/2 SUN', '59 23 31 DEC 6', '@hourly']) {
    assert.match(good, schedule);
  }
  for (const bad of [
    '* * * *',
    '60 * * * *',
    '* 24 * * *',
    '* * 0 * *',
    '* * * 13 *',
    '* * * * 7',
    '*/0 * * * *',
    '@every 1h',
    ' 0 0 * * *',
    '0  0 * * *',
    '0 0 * * *;',
  ]) {
    assert.doesNotMatch(bad, schedule);
  }
});
