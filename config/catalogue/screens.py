"""Points on screens: ScreenSpot, as its authors published it; Pro as one array of the files of its applications."""

SCREENSPOT_V2_MOBILE = dict(
    type="ScreenSpot",
    version="v2",
    filename="data/originals/screenspot_v2/screenspot_mobile_v2.json",
    image_folder="data/images/screenspot_v2",
    questions="config/questions/point.json",
)
SCREENSPOT_V2_DESKTOP = dict(
    type="ScreenSpot",
    version="v2",
    filename="data/originals/screenspot_v2/screenspot_desktop_v2.json",
    image_folder="data/images/screenspot_v2",
    questions="config/questions/point.json",
)
SCREENSPOT_V2_WEB = dict(
    type="ScreenSpot",
    version="v2",
    filename="data/originals/screenspot_v2/screenspot_web_v2.json",
    image_folder="data/images/screenspot_v2",
    questions="config/questions/point.json",
)
SCREENSPOT_PRO = dict(
    type="ScreenSpot",
    version="pro",
    filename="data/originals/screenspot_pro/annotations.json",
    image_folder="data/images/screenspot_pro",
    questions="config/questions/point.json",
)
