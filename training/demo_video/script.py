"""The dialogue that is shipped: a delivery and a meeting, two people in two rooms."""

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
    Line("Daniel", "I am calling about the new equipment for the hospital in Boston.", 0.45),
    Line("Sarah", "The driver told me that there is a problem with the weather in the mountains.", 0.5),
    Line("Daniel", "The hospital needs everything before the end of the week.", 0.4),
    Line("Sarah", "I think that it will take another two or three days.", 0.5),
    Line("Daniel", "I understand. I will talk to the driver again this afternoon.", -0.15),
    Line("Sarah", "That is good news.", 0.4),
    Line("Daniel", "I would like to know how many people are coming to the meeting.", 0.6),
    Line("Sarah", "There will be about twenty people from five different companies.", 0.45),
    Line("Daniel", "My brother is going to bring the children on Saturday.", 0.5),
    Line("Sarah", "There is an excellent restaurant on the other side of the river.", 0.5),
    Line("Daniel", "I will do that right after lunch. Is there anything else?", 0.4),
    Line("Sarah", "I will be at the airport at seven o'clock tomorrow morning.", 0.45),
    Line("Daniel", "No, that is all for now. Have a wonderful weekend.", -0.12),
)

NOISE_DB = -48.0
SEED = 5
