import asyncio
import threading
import time

from posttrain_jax.serving.mailbox import Mailbox


def test_items_of_many_threads_arrive_once_and_in_order():
  async def run():
    mailbox, queues = Mailbox(asyncio.get_running_loop()), [asyncio.Queue() for _ in range(4)]

    def deliver(number):
      for item in range(200):
        mailbox.put(queues[number], item)
        if item % 50 == 0:
          time.sleep(0.005)

    threads = [threading.Thread(target=deliver, args=[number]) for number in range(4)]
    for thread in threads:
      thread.start()
    found = [[await asyncio.wait_for(queue.get(), 10) for _ in range(200)] for queue in queues]
    await asyncio.sleep(0.05)
    return found, [queue.qsize() for queue in queues]

  assert asyncio.run(run()) == ([list(range(200))] * 4, [0] * 4)


def test_what_comes_together_wakes_the_loop_once():
  async def run():
    loop = asyncio.get_running_loop()
    mailbox, queue, calls = Mailbox(loop), asyncio.Queue(), []
    wake = loop.call_soon_threadsafe
    loop.call_soon_threadsafe = lambda *args: calls.append(1) or wake(*args)
    for item in range(50):
      mailbox.put(queue, item)
    found = [await queue.get() for _ in range(50)]
    return found, len(calls)

  assert asyncio.run(run()) == (list(range(50)), 1)


def test_after_the_loops_end_nothing_happens():
  loop = asyncio.new_event_loop()
  mailbox = Mailbox(loop)
  loop.close()
  mailbox.put(asyncio.Queue(), 1)
