// A reporter for node:test that writes one JSON line for each test that begins or ends, and one when all have ended, so that
// the program which started this test file can count, and can tell a finished file from one that stopped half way.
// It runs inside the test file's process and knows nothing of other files.

import type { TestEvent } from 'node:test/reporters';
import { inspect } from 'node:util';

export type TestNotice =
  | { readonly notice: 'begun'; readonly name: string }
  | { readonly notice: 'passed'; readonly name: string; readonly title: string }
  | {
      readonly notice: 'failed';
      readonly name: string;
      readonly title: string;
      readonly place: string;
      readonly error: string;
    }
  | { readonly notice: 'skipped'; readonly name: string; readonly title: string; readonly reason: string }
  | { readonly notice: 'finished' };

export default async function* report(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  // Names of the suites and tests around the one reported, by depth: an event carries only its own name.
  const around: string[] = [];
  for await (const event of source) {
    if (event.type === 'test:dequeue' && event.data.type !== 'suite')
      yield line({ notice: 'begun', name: event.data.name });
    if (event.type === 'test:start') {
      around.length = event.data.nesting;
      around.push(event.data.name);
    }
    if (event.type === 'test:pass' || event.type === 'test:fail') {
      const notice = noticeOf(event, around);
      if (notice !== undefined) yield line(notice);
    }
  }
  yield line({ notice: 'finished' });
}

function line(notice: TestNotice): string {
  return `${JSON.stringify(notice)}\n`;
}

function noticeOf(
  event: Extract<TestEvent, { type: 'test:pass' | 'test:fail' }>,
  around: readonly string[],
): TestNotice | undefined {
  const { name, nesting, skip, file, line: lineNumber } = event.data;
  const title = [...around.slice(0, nesting), name].join(' > ');
  if (event.type === 'test:pass') {
    if (skip) return { notice: 'skipped', name, title, reason: typeof skip === 'string' ? skip : 'no reason given' };
    return event.data.details.type === 'suite' ? undefined : { notice: 'passed', name, title };
  }
  const { error } = event.data.details;
  // A parent that failed only because a test inside it failed would be counted twice.
  if ('failureType' in error && error.failureType === 'subtestsFailed') return undefined;
  const cause = error.cause ?? error;
  const text = cause instanceof Error ? inspect(cause, { depth: 5 }) : String(cause);
  return { notice: 'failed', name, title, place: `${file ?? ''}:${lineNumber ?? 0}`, error: text };
}
