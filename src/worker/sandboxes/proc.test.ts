import { expect, test } from 'vitest'
import { ownFolders } from './cgroup.ts'
import { wordBytes } from './disk.ts'
import { parseStat } from './proc.ts'
import { folderName } from './record.ts'

test("a program's name with brackets and spaces does not confuse its stat line", () => {
  const text = '77 (a) (b c) S 1 70 60 0 -1 4194304 100 0 0 0 0 0 0 0 20 0 1 0 150419 3133440 380'
  expect(parseStat(77, text)).toEqual({ pid: 77, parent: 1, group: 70, session: 60, state: 'S', started: '150419' })
  expect(parseStat(77, '')).toBeNull()
})

test('control groups are found under version 1, version 2 and both', () => {
  const mounts = [
    '30 20 0:26 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids',
    '31 20 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory',
    '32 20 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu',
    '33 20 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw',
  ].join('\n')
  expect(ownFolders(mounts, '8:pids:/\n4:memory:/a/b\n1:cpu:/\n0::/')).toEqual([
    '/sys/fs/cgroup/pids',
    '/sys/fs/cgroup/memory/a/b',
    '/sys/fs/cgroup/unified',
  ])
  expect(ownFolders('30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup rw,nsdelegate', '0::/user.slice/x.scope')).toEqual(
    ['/sys/fs/cgroup/user.slice/x.scope'],
  )
  expect(
    ownFolders('30 20 0:26 /docker/c1 /sys/fs/cgroup/pids ro - cgroup cgroup rw,pids', '8:pids:/docker/c1'),
  ).toEqual(['/sys/fs/cgroup/pids'])
  expect(ownFolders('', '')).toEqual([])
})

test('an id becomes a file name that leads nowhere else', () => {
  expect(folderName('0199-aB_c')).toBe('0199-aB_c')
  for (const id of ['..', '.hidden', 'a/b', '', 'a\0b', 'x'.repeat(300), '-rf'])
    expect(folderName(id)).toMatch(/^x-[0-9a-f]{64}$/)
})

test('sizes are said in words of their own order', () => {
  expect([0, 512, 1536, 10 * 1024 ** 3].map(wordBytes)).toEqual(['0 B', '512 B', '1.5 KiB', '10 GiB'])
})
