/** A view that throws. */

import { cleanup, render, screen } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import * as React from 'react';
import { afterEach, expect, it, vi } from 'vitest';

import { Guard } from '../src/components/guard';

afterEach(cleanup);

it('says so, leaves the others, and can be tried again', async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined); // React tells of it there
  let isBroken = true;
  const View = (): JSX.Element => {
    if (isBroken) {
      throw new Error('no such field');
    }
    return <p>all is well</p>;
  };
  render(
    <>
      <Guard>
        <View />
      </Guard>
      <p>another view</p>
    </>
  );
  expect(screen.getByRole('alert').textContent).toContain('This view has failed');
  expect(screen.getByText('another view')).toBeTruthy();
  isBroken = false;
  await userEvent.setup().click(screen.getByRole('button', { name: 'Try again' }));
  expect(screen.getByText('all is well')).toBeTruthy();
});
