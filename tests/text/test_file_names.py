from __future__ import annotations

import time

import pytest

from curate.text.file_names import is_file_name_like


@pytest.mark.parametrize(
    "name",
    [
        *("IMG_2031.JPG", "DSC00012", "_MG_1234", "P1010101.jpg", "100_4321", "DJI_0001.DNG", "IMG_20210203_101112"),
        *("Screenshot 2020-01-01 at 10.11.12", "screenshot_3", "Bildschirmfoto 2020-01-01 um 10.11.12"),
        *("スクリーンショット 2020-01-01 10.11.12", "20210203_101112", "WhatsApp Image 2020-01-01 at 10.11.12"),
        *("untitled-1", "Untitled design (2)", "Unbenannt-3", "download (1).jpeg", "image001", "scan0003.tif"),
        *("d41d8cd98f00b204e9800998ecf8427e", "123e4567-e89b-12d3-a456-426614174000", "1234567890_o"),
        *("red-apple-on-a-table.webp", "red-apple-600x400", "my red apple 2.png", "photo.jpg?w=600", "books-aj.svg"),
        *("Copy of IMG_2031", "IMG_2031 (2).jpg", "shutterstock_123456789", " IMG_2031.JPG\n"),
    ],
)
def test_names_of_files_are_told(name: str) -> None:
    assert is_file_name_like(name)


@pytest.mark.parametrize(
    "caption",
    [
        *(
            "",
            "a red apple",
            "apple",
            "Two_Cats",
            "BlueMan#101",
            "Stickyman 001",
            "Nikon Coolpix 4500",
            "Musical Note 1",
        ),
        *(
            "1989 Chevrolet Celebrity Wagon",
            "MPCAD Box 30x20x100",
            "Switch_Cisco_3750_1",
            "glace_05_bw",
            "LED Rounded H",
        ),
        *("download the file and open it", "A screenshot of the editor", "Untitled, oil on canvas", "deadbeef", "2020"),
        *("The picture that you see here is called apple.jpg", "Image of 3 dogs", "Flight 1234 to Oslo", "苹果"),
    ],
)
def test_captions_are_no_names_of_files(caption: str) -> None:
    assert not is_file_name_like(caption)


def test_no_text_takes_long() -> None:
    begin = time.process_time()
    for text in (
        "a" * 255,
        "(1)" * 80 + "x",
        "IMG_1234" + "copy" * 50 + "!",
        "a-" * 127 + "!",
        "1_" * 127,
        "x " * 10**6,
    ):
        is_file_name_like(text)
    assert time.process_time() - begin < 0.5
