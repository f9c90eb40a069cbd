// Runs before the first paint and before the page's own code.

// A chosen theme never flashes. Without a choice the system's theme holds.
{
  let theme = null
  try {
    theme = localStorage.getItem('baton.theme')
  } catch {}
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme
}

// zod (4.6) tries `new Function` once for each page unless told otherwise, which the page's policy reports as a
// violation.
globalThis.__zod_globalConfig = { jitless: true }
