import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    environment: 'jsdom',
    include: ['tests/**/*.test.{ts,tsx}'],
    setupFiles: ['tests/setup.ts'],
    isolate: false // half of the time went into loading the same modules for each file
  },
  oxc: { jsx: { runtime: 'classic' } }
});
