import { expect, test } from 'vitest'
import type { Event, RunState, TreeNode } from '../../contract/index.ts'
import { happeningsOf, withHappenings } from './happenings.ts'
import { ancestorsOf, avatarOf, indexTree, pillOrder, treeRows } from './tree.ts'

const at = (second: number) => new Date(Date.UTC(2026, 0, 1, 0, 0, second)).toISOString()

const node = (run_id: string, parent_run_id: string | null, state: RunState = 'INPROGRESS'): TreeNode => ({
  run_id,
  parent_run_id,
  depth: 0,
  name: run_id,
  title: run_id,
  state,
  waiting: false,
  harness: 'claude',
  created_at: at(0),
  started_at: null,
  ended_at: null,
  undelivered: 0,
  total_tokens: 0,
})

const NODES = [node('top', null), node('a', 'top'), node('a1', 'a'), node('a2', 'a'), node('b', 'top')]

test('pills go by who needs somebody, what failed, what works, what is done, then by birth', () => {
  const born = [
    node('done', 'top', 'SUCCEEDED'),
    node('first', 'top'),
    node('error', 'top', 'ERROR'),
    node('second', 'top', 'QUEUED'),
    node('blocked', 'top', 'BLOCKED'),
    node('gone', 'top', 'CANCELLED'),
  ]
  expect(pillOrder(born).map((one) => one.run_id)).toEqual(['blocked', 'error', 'first', 'second', 'done', 'gone'])
})

test('a closed row of a tree hides all that is below it, and the way up is known at any depth', () => {
  const index = indexTree(NODES)
  const shown = (closed: string[]) => treeRows(index, 'top', new Set(closed)).map((row) => row.node.run_id)
  expect(shown([])).toEqual(['top', 'a', 'a1', 'a2', 'b'])
  expect(shown(['a'])).toEqual(['top', 'a', 'b'])
  expect(treeRows(index, 'a', new Set()).map((row) => [row.level, row.place, row.siblings])).toEqual([
    [1, 1, 1],
    [2, 1, 2],
    [2, 2, 2],
  ])
  expect(ancestorsOf(index, 'a2').map((one) => one.run_id)).toEqual(['top', 'a'])
})

test('a name has one letter and colour, whatever it is written in', () => {
  expect(avatarOf('survey')).toEqual(avatarOf('survey'))
  expect([avatarOf('«ängström»').letter, avatarOf('…').letter, avatarOf('7th').letter]).toEqual(['Ä', '?', '7'])
})

const event = (sequence: number, event_type: string, run_id: string, ref_id: string | null = null): Event => ({
  sequence,
  event_type,
  run_id,
  ref_id,
  execution_id: null,
  occurred_at: at(sequence),
})

test('what happened to a child stands between the entries around it; to a grandchild, not here', () => {
  const events = [
    event(1, 'child_agent_started', 'top', 'a'),
    event(3, 'run_in_progress', 'a'),
    event(4, 'child_agent_started', 'a', 'a1'),
    event(5, 'run_failed', 'a1'),
    event(7, 'run_succeeded', 'a'),
    event(8, 'run_succeeded', 'top'),
  ]
  const told = happeningsOf('top', new Set(['a']), { events, letters: [] })
  expect(told.map((one) => one.sequence)).toEqual([1, 3, 7])
  const entry = (number: number, second: number) => ({
    key: `entry ${number}`,
    entry: {
      run_id: 'top',
      execution_id: 'x',
      execution_number: 1,
      number,
      position: `${number}`,
      at: at(second),
      body: { kind: 'text' as const, text: '' },
    },
  })
  const items = [entry(1, 2), entry(2, 6)]
  const keys = (window: { has_earlier: boolean; has_later: boolean }) =>
    withHappenings(items, told, window).map((item) => item.key)
  expect(keys({ has_earlier: false, has_later: false })).toEqual([
    'happening:1',
    'entry 1',
    'happening:3',
    'entry 2',
    'happening:7',
  ])
  expect(keys({ has_earlier: true, has_later: true })).toEqual(['entry 1', 'happening:3', 'entry 2'])
})
