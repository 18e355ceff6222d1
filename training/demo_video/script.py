"""The dialogue that is shipped: an order that is late, told by two people in two rooms."""

from __future__ import annotations

from training.demo_video.dialogue import Line, Speaker
from training.demo_video.rooms import Room

SPEAKERS = (
    Speaker("Daniel", "rms", Room(reverberation_s=0.35, direct_db=9.0, gain_db=0.0, seed=1)),
    Speaker("Sarah", "slt", Room(reverberation_s=0.18, direct_db=14.0, gain_db=-2.0, seed=2)),
)

SCRIPT = (
    Line("Daniel", "Good morning, this is Daniel from the office. Do you have a few minutes to talk?", 0.0),
    Line("Sarah", "Good morning Daniel. Yes, of course. What can I do for you today?", 0.5),
    Line("Daniel", "I want to ask you about the order that we sent to the company last week.", 0.45),
    Line("Sarah", "The big order for the new school? It left our building on Monday morning.", 0.4),
    Line("Daniel", "That is good news. When do you think it will arrive?", 0.5),
    Line("Sarah", "The driver told me that the road is closed because of the snow. It will take two more days.", 0.6),
    Line("Daniel", "So it will be there on Friday afternoon. The school wants everything before the weekend.", 0.4),
    Line("Sarah", "I understand. I will call the driver again and ask him to take the other road.", -0.2),
    Line("Daniel", "Thank you very much. Please send me a message when you know more.", 0.55),
    Line("Sarah", "I will do that right after lunch. Is there anything else?", 0.5),
    Line("Daniel", "No, that is all for now. Have a nice day Sarah.", -0.15),
    Line("Sarah", "Thank you Daniel. You too.", 0.4),
)
