"""An assistant with a tool of one's own: how many seats are left in a room?

With a recording of the question, in a shell: `python examples/seats.py question.wav answer.wav`.
"""

import sys

from microturn import Assistant, tool


@tool(phrases=["how many seats are left in {room}"])
async def seats(room: str) -> str:
    """Say how many seats are left in a room.

    Args:
        room: the room's name, such as "the library".
    """
    return f"There are seven seats left in {room}."


if __name__ == "__main__":
    assistant = Assistant(tools=[seats])
    print(assistant.talk(input=sys.argv[1], output=sys.argv[2], fast=True).as_dict())
